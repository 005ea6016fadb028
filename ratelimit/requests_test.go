package ratelimit

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
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

// newRequestLimiter is Requests with a budget of 3 and one more every half second.
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
			t.Errorf("a free request: got %d", w.Code)
		}
		time.Sleep(500 * time.Millisecond)
		if w := get(h, "/", "192.0.2.1"); w.Code != 200 || l.Refused() != 2 {
			t.Errorf("after a token came: got %d and %d refused, want 200 and 2", w.Code, l.Refused())
		}
	})
}

func TestRefusalExplainsItself(t *testing.T) {
	l := newRequestLimiter()
	l.Limiter = NewLimiter(Budget{PerSecond: 0.1, Burst: 1}, 0)
	h := l.Handler(http.HandlerFunc(serveOK))
	get(h, "/", "192.0.2.1")
	w := get(h, "/", "192.0.2.1")
	for name, want := range map[string]string{
		"Retry-After": "10", "RateLimit": `"requests";r=0;t=10`, "RateLimit-Policy": `"requests";q=1;w=10`,
		"Content-Type": "application/problem+json", "Cache-Control": "no-store", "Connection": "close",
		"X-Content-Type-Options": "nosniff", "Content-Length": strconv.Itoa(w.Body.Len()),
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	var p struct {
		Type, Title, Detail, Limit string
		Status                     int
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if p.Type != "urn:inbox:problem:rate-limited" || p.Limit != "requests" || p.Status != 429 || p.Title == "" || !strings.Contains(p.Detail, "1 requests") {
		t.Errorf("got %+v", p)
	}
}

// TestRefusalNeverSaysNow: whoever came back at once would be refused again.
func TestRefusalNeverSaysNow(t *testing.T) {
	for wait, want := range map[time.Duration]string{0: "1", time.Millisecond: "1", time.Second: "1", 1001 * time.Millisecond: "2"} {
		w := httptest.NewRecorder()
		(&Refusal{Limit: "any", Quota: 3, Wait: wait}).Refuse(w)
		if got := w.Header().Get("Retry-After"); got != want || w.Header().Get("RateLimit") != `"any";r=0;t=`+want {
			t.Errorf("after %v: got Retry-After %q and RateLimit %q, want %s", wait, got, w.Header().Get("RateLimit"), want)
		}
	}
}

// TestRefusedPageReloads: a person who opens a page gets one, which a browser
// loads again after the wait; what scripts ask for stays a problem document.
func TestRefusedPageReloads(t *testing.T) {
	for name, row := range map[string]struct {
		method, field, value string
		page                 bool
	}{
		"a navigation":         {"GET", "Sec-Fetch-Mode", "navigate", true},
		"an old browser's":     {"GET", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8", true},
		"a fetch":              {"GET", "Sec-Fetch-Mode", "cors", false},
		"a program":            {"GET", "Accept", "*/*", false},
		"a form, not repeated": {"POST", "Sec-Fetch-Mode", "navigate", false},
	} {
		l := newRequestLimiter()
		l.Limiter = NewLimiter(Budget{PerSecond: 0.1, Burst: 1}, 0)
		h := l.Handler(http.HandlerFunc(serveOK))
		get(h, "/", "192.0.2.1")
		r := httptest.NewRequest(row.method, "/", nil)
		r.Header.Set(row.field, row.value)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		refresh, kind := w.Header().Get("Refresh"), w.Header().Get("Content-Type")
		if w.Code != 429 || w.Header().Get("Retry-After") != "10" {
			t.Errorf("%s: got %d, Retry-After %q, want 429 and 10", name, w.Code, w.Header().Get("Retry-After"))
		}
		if isPage := kind == "text/html; charset=utf-8" && refresh == "10" && strings.Contains(w.Body.String(), "1 requests at once"); isPage != row.page {
			t.Errorf("%s: got %s with Refresh %q:\n%s", name, kind, refresh, w.Body)
		}
		if csp := w.Header().Get("Content-Security-Policy"); row.page && csp != "default-src 'none'; frame-ancestors 'none'" {
			t.Errorf("%s: got Content-Security-Policy %q", name, csp)
		}
	}
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

// TestFloodIsTarpitted: of a closed-loop flooder's requests each refused one takes
// its time, unless the room for that is full; a client that leaves is let go.
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
			t.Errorf("held a client that left for %v", got)
		}
		if l.tarpitted.Load() != 0 {
			t.Errorf("got %d places in use, want none", l.tarpitted.Load())
		}
	})
}

func TestPollLimiterLimitsPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		limiter := &PollLimiter{Max: 2, Addr: new(ClientIP).Addr, IsPoll: func(r *http.Request) bool { return r.URL.Path == "/inbox" }}
		h := limiter.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/inbox" {
				<-release
			}
		}))
		for _, peer := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2"} {
			go get(h, "/inbox", peer)
		}
		synctest.Wait()
		if w := get(h, "/inbox", "192.0.2.1"); w.Code != 429 || w.Header().Get("RateLimit-Policy") != `"held";q=2` {
			t.Errorf("the third: got %d %v, want 429", w.Code, w.Header())
		}
		limiter.DryRun = true
		go get(h, "/inbox", "192.0.2.1")
		synctest.Wait()
		if limiter.Active() != 4 || limiter.Refused() != 2 {
			t.Errorf("in a dry run: got %d held and %d refused, want 4 and 2", limiter.Active(), limiter.Refused())
		}
		if w := get(h, "/", "192.0.2.1"); w.Code != 200 {
			t.Errorf("one that is not held: got %d", w.Code)
		}
		close(release)
		synctest.Wait()
		if w := get(h, "/inbox", "192.0.2.1"); w.Code != 200 || limiter.Active() != 0 {
			t.Errorf("after the others ended: got %d with %d held", w.Code, limiter.Active())
		}
	})
}
