package limits

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"inbox/ratelimit"
)

// TestOpenFilesAreShared checks that a client with stalled responses leaves files to others.
func TestOpenFilesAreShared(t *testing.T) {
	l := &FileLimiter{
		Share: ratelimit.NewShare(ratelimit.ShareLimits{Ceiling: 100}),
		Addr:  func(r *http.Request) netip.Addr { return ratelimit.ParseAddr(r.RemoteAddr) },
	}
	stall, started := make(chan struct{}), make(chan struct{})
	h := l.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stalled" {
			started <- struct{}{}
			<-stall
		}
	}))
	get := func(client, path string) int {
		r := httptest.NewRequest("GET", path, nil)
		r.RemoteAddr = client + ":1"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for range 20 { // a client's share of 100
		go get("192.0.2.1", "/stalled")
		<-started
	}
	if got := get("192.0.2.1", "/"); got != http.StatusTooManyRequests {
		t.Errorf("the client over its share: got %d, want 429", got)
	}
	if got := get("198.51.100.1", "/"); got != http.StatusOK {
		t.Errorf("another client: got %d, want 200", got)
	}
	close(stall)
	if refused := l.Share.Refused(); refused != 1 {
		t.Errorf("got %d refusals counted, want 1", refused)
	}
}
