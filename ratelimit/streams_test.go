package ratelimit

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

// streamServer serves next over HTTP/2 behind the limiter.
func streamServer(t *testing.T, a *StreamLimiter, next http.Handler) *httptest.Server {
	t.Helper()
	a.Addr = func(r *http.Request) netip.Addr { return ParseAddr(r.Header.Get("X-From")) }
	s := httptest.NewUnstartedServer(a.Handler(next))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func getFrom(ctx context.Context, s *httptest.Server, from string) (string, error) {
	r, _ := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
	r.Header.Set("X-From", from)
	resp, err := s.Client().Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func TestStreamLimiterBoundsConcurrentRequests(t *testing.T) {
	for _, row := range []struct {
		name       string
		limits     *StreamLimiter
		held, then string // addresses of the first two requests, and of the third
		refuses    bool
	}{
		{"below", &StreamLimiter{Max: 3, MaxPerAddr: 3}, "192.0.2.1", "192.0.2.1", false},
		{"in total", &StreamLimiter{Max: 2}, "192.0.2.1", "192.0.2.2", true},
		{"per address", &StreamLimiter{Max: 9, MaxPerAddr: 2}, "192.0.2.1", "192.0.2.1", true},
		{"another address", &StreamLimiter{Max: 9, MaxPerAddr: 2}, "192.0.2.1", "192.0.2.2", false},
		{"no limit", &StreamLimiter{}, "192.0.2.1", "192.0.2.1", false},
		{"dry run", &StreamLimiter{Max: 9, MaxPerAddr: 1, DryRun: true}, "192.0.2.1", "192.0.2.1", false},
		{"in total in a dry run", &StreamLimiter{Max: 2, DryRun: true}, "192.0.2.1", "192.0.2.2", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			arrived, release := make(chan struct{}, 3), make(chan struct{})
			a := row.limits
			s := streamServer(t, a, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived <- struct{}{}
				<-release
				io.WriteString(w, "served")
			}))
			answers := make(chan error, 3)
			for range 2 {
				go func() { _, err := getFrom(t.Context(), s, row.held); answers <- err }()
				<-arrived
			}
			go func() { _, err := getFrom(t.Context(), s, row.then); answers <- err }()
			if row.refuses {
				if err := <-answers; err == nil {
					t.Error("the third request was answered, want its stream reset")
				}
				answers <- nil
			} else {
				<-arrived
			}
			close(release)
			for range 3 {
				if err := <-answers; err != nil {
					t.Error(err)
				}
			}
			if got := a.Refused() > 0; got != (row.refuses || a.DryRun) {
				t.Errorf("got a refusal counted %v, want %v", got, row.refuses || a.DryRun)
			}
		})
	}
}

// A slot is released when its request ends, also after a refusal.
func TestStreamLimiterReleasesSlots(t *testing.T) {
	a := &StreamLimiter{Max: 1, MaxPerAddr: 1, Addr: func(*http.Request) netip.Addr { return addr("2001:db8::1") }}
	var h http.Handler
	served, refused := 0, 0
	ask := func() {
		defer func() {
			if recover() != nil {
				refused++
			}
		}()
		r := httptest.NewRequest("GET", "/", nil)
		r.ProtoMajor = 2
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	h = a.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++; ask() }))
	for range 20 {
		ask()
	}
	if served != 20 || refused != 20 || a.Active() != 0 || len(a.open.count) != 0 {
		t.Errorf("got %d served, %d refused, %d active and %v counted, want 20, 20 and none", served, refused, a.Active(), a.open.count)
	}
}

// Requests of HTTP/1.1 are bounded by connections and have no stream to reset.
func TestStreamLimiterIgnoresHTTP1(t *testing.T) {
	a := &StreamLimiter{Max: 1, MaxPerAddr: 1, Addr: func(*http.Request) netip.Addr { return ip4(1) }}
	var h http.Handler
	depth := 0
	h = a.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if depth++; depth < 3 {
			h.ServeHTTP(w, r) // one more while this one is active
		}
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if depth != 3 || a.Refused() != 0 {
		t.Errorf("got %d requests at once and %d refused, want 3 and none", depth, a.Refused())
	}
}

// unreadRecorder records a response that the client does not read yet.
type unreadRecorder struct {
	*httptest.ResponseRecorder
	flushing, read chan struct{}
}

func (s *unreadRecorder) Flush() {
	close(s.flushing)
	<-s.read
}

// A stream is active until the client has read the response, even after the handler has
// returned.
func TestStreamLimiterCountsUnreadResponses(t *testing.T) {
	a := &StreamLimiter{Max: 1, Addr: func(*http.Request) netip.Addr { return netip.Addr{} }}
	h := a.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	w := &unreadRecorder{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
	r := httptest.NewRequest("GET", "/", nil)
	r.ProtoMajor = 2
	done := make(chan struct{})
	go func() { defer close(done); h.ServeHTTP(w, r) }()
	<-w.flushing
	if a.Active() != 1 {
		t.Errorf("%d streams active while a response is not read, want 1", a.Active())
	}
	close(w.read)
	<-done
	if a.Active() != 0 {
		t.Errorf("%d streams active after all ended", a.Active())
	}
}
