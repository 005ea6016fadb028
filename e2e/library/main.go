// Command library is the server of docs/library.md.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
	"inbox/public"
	"inbox/ratelimit"
	"inbox/tlsmgr"
)

func main() {
	key, err := os.ReadFile("secret") // 64 random bytes
	if err != nil || len(key) != 64 {
		log.Fatalf("read 64 bytes of secret: %d, %v", len(key), err)
	}
	inner, err := net.Listen("tcp", ":443")
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := serve(ctx, inner, key); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, inner net.Listener, key []byte) error {
	clients := &ratelimit.ClientIP{} // Trusted lists the proxies in front of the server
	conns := ratelimit.NewConnLimiter(ratelimit.ConnLimits{Max: 10_000, MaxPerAddr: 256}, clients)
	listener := conns.Listener(inner)
	rate := ratelimit.Budget{PerSecond: 40, Burst: 400}
	requests := &ratelimit.RequestLimiter{Limiter: ratelimit.NewLimiter(rate, 0), Addr: clients.Addr}
	attempts := ratelimit.NewAttemptLimiter(ratelimit.AttemptLimits{
		WrongPasswords:    ratelimit.Budget{PerSecond: 0.1, Burst: 10},
		NewNames:          ratelimit.Budget{PerSecond: 1, Burst: 60},
		UnknownRecipients: ratelimit.Budget{PerSecond: 1, Burst: 60},
		NewCodes:          ratelimit.Budget{PerSecond: 0.1, Burst: 60},
		UnknownCodes:      ratelimit.Budget{PerSecond: 0.1, Burst: 10},
		OwnerTTL:          time.Minute, MaxOwners: 10_000,
	}, clients.Addr)
	store := memstore.New(inbox.Limits{
		Timeout: time.Minute, Capacity: 100, MaxInboxes: 10_000, MaxInboxesPerPayer: 100,
		MaxQueuedBytes: 64 << 20, MaxQueuedBytesPerPayer: 8 << 20,
	})
	mailboxes := inbox.NewHandler(inbox.Config{
		Store: store, Secret: key[:32], Path: "/inbox", ICEPath: "/ice",
		PollTimeout: 25 * time.Second, WriteTimeout: 30 * time.Second,
		MaxBodyBytes: 1 << 20, MaxInFlightBytes: 64 << 20,
		Capacity: 100, Alive: inbox.Alive, Guard: guard{attempts}, CodePrefix: "code-",
		Payer: func(r *http.Request) inbox.Payer {
			client, network := ratelimit.Payer(key[32:], clients.Addr(r))
			return inbox.Payer{Client: client, Network: network}
		},
	})
	certificate, err := tlsmgr.New(tlsmgr.Config{CertFile: "server.crt", KeyFile: "server.key"})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/inbox", mailboxes)
	mux.Handle("/inbox"+inbox.AckPath, mailboxes)
	mux.Handle("/ice", mailboxes)
	mux.Handle("/", public.Embedded(public.Options{}))
	server := &http.Server{Handler: requests.Handler(mux), ConnContext: inbox.ConnContext,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: time.Minute}
	server.RegisterOnShutdown(mailboxes.EndPolls)
	go certificate.Run(ctx) // renews or reloads
	go every(ctx, time.Second, func(now time.Time) {
		store.Sweep()
		conns.Sweep(now)
		requests.Limiter.Sweep(now)
		attempts.Sweep(now)
	})
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() { stopped <- server.Shutdown(context.Background()) })
	err = server.Serve(tls.NewListener(listener, certificate.TLSConfig()))
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// every calls f at this interval until ctx ends.
func every(ctx context.Context, interval time.Duration, f func(time.Time)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			f(now)
		case <-ctx.Done():
			return
		}
	}
}

// guard limits attempts by address.
type guard struct{ *ratelimit.AttemptLimiter }

var attemptKinds = map[inbox.Attempt]ratelimit.Attempt{
	inbox.PasswordGuess:    ratelimit.WrongPassword,
	inbox.NewName:          ratelimit.NewName,
	inbox.UnknownRecipient: ratelimit.UnknownRecipient,
	inbox.NewCode:          ratelimit.NewCode,
	inbox.UnknownCode:      ratelimit.UnknownCode,
}

func (g guard) Allow(r *http.Request, a inbox.Attempt, name string) error {
	return g.AttemptLimiter.Allow(r, attemptKinds[a], name)
}

func (g guard) Reserve(r *http.Request, a inbox.Attempt, name string) (bool, error) {
	return g.AttemptLimiter.Reserve(r, attemptKinds[a], name)
}

func (g guard) Release(r *http.Request, a inbox.Attempt, name string) {
	g.AttemptLimiter.Release(r, attemptKinds[a], name)
}

func (g guard) Record(r *http.Request, a inbox.Attempt, name string) {
	if a == inbox.PasswordMatch {
		g.Succeeded(r, name)
	} else {
		g.Failed(r, attemptKinds[a], name)
	}
}
