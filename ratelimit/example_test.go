package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	"inbox/ratelimit"
)

// A server behind a proxy on the same machine. Each client may open 20 connections per
// second, have 256 open and make 40 requests per second. A client that exceeds the request
// rate gets 429 with Retry-After.
func Example() {
	clientIP := &ratelimit.ClientIP{
		Trusted:     []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		OnUntrusted: func(header string) { log.Printf("a private address that is not trusted sends %s", header) },
	}
	conns := ratelimit.ConnLimits{
		Max: 10_000, MaxPerAddr: 256, Rate: ratelimit.Budget{PerSecond: 20, Burst: 100},
		Tarpit: time.Second, MaxTarpitted: 1024,
	}
	requests := &ratelimit.RequestLimiter{
		Limiter: ratelimit.NewLimiter(ratelimit.Budget{PerSecond: 40, Burst: 3}, 0),
		Addr:    clientIP.Addr,
		Tarpit:  time.Second, MaxTarpitted: 1024,
	}

	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	limiter := ratelimit.NewConnLimiter(conns, clientIP)
	listener := limiter.Listener(inner)
	server := &http.Server{
		Handler: requests.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello, %s", clientIP.Addr(r))
		})),
		ReadHeaderTimeout: 10 * time.Second, // the package does not limit slow clients
		IdleTimeout:       time.Minute,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	stop := make(chan struct{})
	go func() { // frees memory after a flood
		ticker := time.NewTicker(time.Minute)
		defer ticker.Stop()
		for {
			select {
			case now := <-ticker.C:
				limiter.Sweep(now)
				requests.Limiter.Sweep(now)
			case <-stop:
				return
			}
		}
	}()

	for _, client := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"} {
		fmt.Println(requestFrom(inner.Addr(), client))
	}
	close(stop)
	server.Shutdown(context.Background())
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	// Output:
	// 200 hello, 192.0.2.1
	// 200 hello, 192.0.2.1
	// 200 hello, 192.0.2.1
	// 429
	// 200 hello, 192.0.2.2
}

// requestFrom sends a request as the proxy does for a client.
func requestFrom(server net.Addr, client string) string {
	r, err := http.NewRequest("GET", "http://"+server.String(), nil)
	if err != nil {
		log.Fatal(err)
	}
	r.Header.Set("X-Forwarded-For", client)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Sprint(resp.StatusCode)
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, body)
}

// Wrong passwords are charged when they turn out wrong. Then the client waits, and the
// owner of the name does not.
func ExampleAttemptLimiter() {
	limiter := ratelimit.NewAttemptLimiter(ratelimit.AttemptLimits{
		WrongPasswords: ratelimit.Budget{PerSecond: 0.1, Burst: 2},
		OwnerTTL:       time.Hour, MaxOwners: 10_000,
	}, new(ratelimit.ClientIP).Addr)
	login := func(peer, password string) string {
		r := &http.Request{RemoteAddr: peer}
		if err := limiter.Allow(r, ratelimit.WrongPassword, "alice"); err != nil {
			return err.Error()
		}
		if password != "correct" {
			limiter.Failed(r, ratelimit.WrongPassword, "alice")
			return "wrong password"
		}
		limiter.Succeeded(r, "alice")
		return "ok"
	}
	fmt.Println(login("192.0.2.1:1", "correct"))
	for range 3 {
		fmt.Println(login("192.0.2.2:1", "guess"))
	}
	fmt.Println(login("192.0.2.1:1", "correct"))
	// Output:
	// ok
	// wrong password
	// wrong password
	// limit of passwords reached
	// ok
}
