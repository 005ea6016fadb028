package ratelimit

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func serveOK(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ok") }

func get(h http.Handler, path, peer string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	r.RemoteAddr = peer + ":1234"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// newRequestLimiter returns a limiter with three tokens, refilled every half second.
func newRequestLimiter() *RequestLimiter {
	return &RequestLimiter{
		Limiter: NewLimiter(Budget{PerSecond: 2, Burst: 3}, 0), Addr: new(ClientIP).Addr,
		Exempt: func(r *http.Request) bool { return r.URL.Path == "/healthz" },
	}
}

func TestRequestsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRequestLimiter()
		h := l.Handler(http.HandlerFunc(serveOK))
		for i := range 5 {
			w := get(h, "/", "192.0.2.1")
			if want := []int{200, 200, 200, 429, 429}[i]; w.Code != want {
				t.Errorf("request %d: got %d, want %d", i, w.Code, want)
			}
		}
		if w := get(h, "/", "192.0.2.2"); w.Code != 200 {
			t.Errorf("another address: got %d", w.Code)
		}
		if w := get(h, "/healthz", "192.0.2.1"); w.Code != 200 {
			t.Errorf("an exempt request: got %d", w.Code)
		}
		time.Sleep(500 * time.Millisecond)
		if w := get(h, "/", "192.0.2.1"); w.Code != 200 || l.Refused() != 2 {
			t.Errorf("after a refill: got %d and %d refused, want 200 and 2", w.Code, l.Refused())
		}
	})
}

// TestClientUsesTheBucketsOfItsAddress checks that what connections remember gives a client no
// other tokens than its address has, and its network.
func TestClientUsesTheBucketsOfItsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, peer := range []string{"192.0.2.1", "[2001:db8::1]"} {
			l := newRequestLimiter()
			connections := map[string]*Client{"1": NewClient(ParseAddr(peer)), "2": NewClient(ParseAddr(peer))}
			l.Client = func(r *http.Request) *Client { return connections[r.URL.RawQuery] }
			h := l.Handler(http.HandlerFunc(serveOK))
			for i, connection := range []string{"1", "2", "a proxy", "1", "2", "a proxy"} {
				w := get(h, "/?"+url.PathEscape(connection), peer)
				if want := []int{200, 200, 200, 429, 429, 429}[i]; w.Code != want {
					t.Errorf("%s: got %d for request %d, over connection %s, want %d", peer, w.Code, i+1, connection, want)
				}
			}
			if _, again := l.DelayClient(connections["1"]); !again {
				t.Errorf("%s: a frame had a token", peer)
			}
			other := NewLimiter(Budget{PerSecond: 1, Burst: 1}, 0)
			for i := range 2 {
				if got := other.TakeFrom(connections["1"], time.Now()).OK; got != (i == 0) {
					t.Errorf("%s: got %v for token %d of another limiter", peer, got, i+1)
				}
			}
		}
	})
}

func TestDryRunRefusesNothing(t *testing.T) {
	l := newRequestLimiter()
	l.DryRun = true
	h := l.Handler(http.HandlerFunc(serveOK))
	for range 5 {
		if w := get(h, "/", "192.0.2.1"); w.Code != 200 {
			t.Errorf("got %d, want 200", w.Code)
		}
	}
	if l.Refused() != 2 {
		t.Errorf("got %d counted, want 2", l.Refused())
	}
}

// Addresses that have used an eighth of their burst share a pace; others do not wait.
func TestHeavyUsersArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &RequestLimiter{
			Limiter: NewLimiter(Budget{PerSecond: 1, Burst: 80}, 0), Addr: new(ClientIP).Addr,
			HeavyPerSecond: 1,
		}
		var handled atomic.Int64
		h := l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { handled.Add(1) }))
		began := time.Now()
		for _, addr := range []string{"192.0.2.1", "198.51.100.1"} {
			for range 10 {
				get(h, "/", addr)
			}
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("ten requests of each address took %v, want no delay", d)
		}
		get(h, "/", "192.0.2.1") // takes the first turn
		go get(h, "/", "198.51.100.1")
		synctest.Wait()
		get(h, "/", "203.0.113.1")
		if d := time.Since(began); d != 0 || l.Paced() != 1 {
			t.Errorf("got %v for another address and %d paced, want no delay and 1", d, l.Paced())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
		r.RemoteAddr = "192.0.2.1:1"
		h.ServeHTTP(httptest.NewRecorder(), r)
		if d := time.Since(began); d > 10*time.Millisecond || handled.Load() != 22 {
			t.Errorf("a client left: got %v and %d requests handled, want at once and 22", d, handled.Load())
		}
		get(h, "/", "192.0.2.1")
		if d := time.Since(began); d != 2*time.Second || l.Refused() != 0 {
			t.Errorf("the third paced request took %v and %d were refused, want 2s and 0", d, l.Refused())
		}
	})
}

// TestModerateUsersArePaced checks that addresses that begin to request much share a pace, which
// heavy users and others do not take part in.
func TestModerateUsersArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &RequestLimiter{
			Limiter: NewLimiter(Budget{PerSecond: 0.001, Burst: 320}, 0), Addr: new(ClientIP).Addr,
			HeavyPerSecond: 1, ModeratePerSecond: 10,
		}
		h := l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		began := time.Now()
		took := func(want time.Duration, what string) {
			t.Helper()
			if d := time.Since(began).Round(time.Millisecond); d != want {
				t.Errorf("%s: got %v, want %v", what, d, want)
			}
		}
		for range 10 {
			get(h, "/", "192.0.2.1")
		}
		took(0, "a 32nd of the burst")
		for range 30 {
			get(h, "/", "192.0.2.1")
		}
		took(2900*time.Millisecond, "an eighth of the burst")
		get(h, "/", "192.0.2.2")
		get(h, "/", "192.0.2.1") // takes the first turn of heavy users
		took(2900*time.Millisecond, "others")
		get(h, "/", "192.0.2.1")
		took(3900*time.Millisecond, "more than an eighth")
	})
}

// Refusals are delayed up to MaxTarpitted, and end when the client leaves.
func TestFloodIsTarpitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRequestLimiter()
		l.Tarpit, l.MaxTarpitted = time.Second, 2
		h := l.Handler(http.HandlerFunc(serveOK))
		for range 3 {
			get(h, "/", "192.0.2.1")
		}
		began := time.Now()
		var mu sync.Mutex
		var took []time.Duration
		for range 4 {
			go func() {
				get(h, "/", "192.0.2.1")
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}()
			synctest.Wait()
		}
		time.Sleep(2 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if want := []time.Duration{0, 0, 500 * time.Millisecond, 500 * time.Millisecond}; fmt.Sprint(took) != fmt.Sprint(want) {
			t.Errorf("got refusals after %v, want %v", took, want)
		}
		for range 5 { // empty the bucket again
			l.Limiter.Charge(netip.MustParseAddr("192.0.2.1"), time.Now())
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		asked := time.Now()
		r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
		r.RemoteAddr = "192.0.2.1:1"
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got := time.Since(asked); got != 10*time.Millisecond {
			t.Errorf("delayed a refusal for %v after the client left", got)
		}
		if l.tarpitted.Load() != 0 {
			t.Errorf("got %d tarpitted, want none", l.tarpitted.Load())
		}
	})
}

// TestDelay checks that what a connection does takes tokens, and that each wait for one is counted.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, dryRun := range []bool{false, true} {
			l := newRequestLimiter()
			l.DryRun = dryRun
			r := httptest.NewRequest("GET", "/", nil)
			for i := range 4 {
				want := time.Duration(0)
				if i == 3 && !dryRun {
					want = time.Second / 2
				}
				if d, again := l.Delay(r); d != want || again != (want > 0) {
					t.Errorf("dry run %v: got a delay of %v, %v for frame %d, want %v", dryRun, d, again, i, want)
				}
			}
			if l.Paced() != 1 {
				t.Errorf("dry run %v: got %d counted, want 1", dryRun, l.Paced())
			}
			time.Sleep(time.Second / 2)
			if d, again := l.Delay(r); d != 0 || again {
				t.Errorf("dry run %v: got a delay of %v, %v with a token", dryRun, d, again)
			}
		}
	})
}

// TestHeavyUsersAreDelayed checks that frames of heavy users have turns among their requests, and
// take one token each.
func TestHeavyUsersAreDelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &RequestLimiter{
			Limiter: NewLimiter(Budget{PerSecond: 0.001, Burst: 80}, 0), Addr: new(ClientIP).Addr, HeavyPerSecond: 1,
		}
		h, began := l.Handler(http.HandlerFunc(serveOK)), time.Now()
		heavy, light := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		delay := func(addr netip.Addr, want time.Duration) {
			t.Helper()
			if d, again := l.DelayClient(NewClient(addr)); d != want || again {
				t.Errorf("got a delay of %v, %v, want %v", d, again, want)
			}
		}
		for range 11 { // the last one takes the first turn
			delay(heavy, 0)
		}
		delay(heavy, time.Second)
		delay(heavy, 2*time.Second)
		delay(light, 0)
		get(h, "/", heavy.String())
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("a request after three frames took %v, want 3s", d)
		}
		delay(heavy, time.Second)
		if tokens := l.Limiter.tokens(keysOf(heavy)[0], time.Now()); tokens < 65 || tokens >= 66 || l.Paced() != 4 {
			t.Errorf("%v tokens are left and %d were paced, want 65 and 4", tokens, l.Paced())
		}
	})
}

// BenchmarkRequestLimiter measures a token of a request, with and without a connection that
// remembers the buckets of its client.
func BenchmarkRequestLimiter(b *testing.B) {
	for _, peer := range []string{"192.0.2.1", "2001:db8::1"} {
		for _, name := range []string{"looked-up", "remembered"} {
			b.Run(name+"/"+peer, func(b *testing.B) {
				client, l := NewClient(addr(peer)), &RequestLimiter{Limiter: NewLimiter(Budget{PerSecond: 1e9, Burst: 1e9}, 0)}
				if l.Addr = func(*http.Request) netip.Addr { return client.addr }; name == "remembered" {
					l.Client = func(*http.Request) *Client { return client }
				}
				for i := range 1000 {
					l.Limiter.Charge(ip4(i), time.Now().Add(time.Hour)) // other clients, which are not evicted
				}
				h := l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
				r := httptest.NewRequest("GET", "/", nil)
				b.ReportAllocs()
				for b.Loop() {
					h.ServeHTTP(nil, r)
				}
			})
		}
	}
}
