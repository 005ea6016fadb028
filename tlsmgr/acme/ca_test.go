package acme

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/tlstest"
)

// testCAClient returns the client of a CA whose directory is at its root.
func testCAClient(t *testing.T, ca *tlstest.CA) *CAClient {
	t.Helper()
	client, err := NewCAClient(CA{URL: ca.BaseURL, RootsFile: ca.RootsFile})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// A redirect loop at the directory ends after a few requests.
func TestDirectoryRedirectLoop(t *testing.T) {
	ca := tlstest.NewCA(t, tlstest.RedirectLoop)
	if _, err := fetchDirectory(t.Context(), testCAClient(t, ca)); err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("got %v, want an error about redirects", err)
	}
	if n := ca.Requests.Load(); n > 10 {
		t.Errorf("got %d requests, want at most 10", n)
	}
}

// An endless directory does not exhaust memory.
func TestEndlessDirectory(t *testing.T) {
	for _, kind := range []string{"application/json", "application/problem+json", "text/plain"} {
		var sentBytes atomic.Int64
		ca := tlstest.NewCA(t, tlstest.Endless(kind, &sentBytes))
		if _, err := fetchDirectory(t.Context(), testCAClient(t, ca)); err == nil {
			t.Errorf("%s: got no error for an endless response", kind)
		}
		if n := sentBytes.Load(); n > 32<<20 { // socket buffers count as sent
			t.Errorf("%s: got %d bytes sent, want a few MiB", kind, n)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for field, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, "-5": 0, "soon": 0, "999999999999": schedule.MaxRetryAfter,
		"Sun, 22 Nov 2026 12:10:00 GMT": 10 * time.Minute, "Mon, 22 Nov 2027 12:10:00 GMT": schedule.MaxRetryAfter, "Sun, 22 Nov 2020 12:10:00 GMT": 0,
	} {
		if got := ParseRetryAfter(http.Header{"Retry-After": {field}}, now); got != want {
			t.Errorf("Retry-After %q: got %v, want %v", field, got, want)
		}
	}
}
