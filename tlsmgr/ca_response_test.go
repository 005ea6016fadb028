package tlsmgr

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// fakeCA serves an ACME directory, passes all other requests to a handler and counts
// them.
type fakeCA struct {
	*caClient
	requests atomic.Int64
}

func newFakeCA(t *testing.T, handler http.HandlerFunc) *fakeCA {
	t.Helper()
	a := new(fakeCA)
	mux := http.NewServeMux()
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("/directory", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"newNonce":"%[1]s/n","newAccount":"%[1]s/a","newOrder":"%[1]s/o","renewalInfo":"%[1]s/ari"}`, server.URL)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.requests.Add(1)
		handler(w, r)
	})
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	a.caClient = &caClient{url: server.URL + "/directory", storageKey: "fake", roots: roots, httpClient: newHTTPClient(roots)}
	return a
}

func redirectLoop(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
}

// An invalid ARI response is an error, so that the regular schedule applies. It never
// sets a renewal time.
func TestInvalidARIResponse(t *testing.T) {
	respond := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, text)
		}
	}
	window := func(from, to string) http.HandlerFunc {
		return respond(`{"suggestedWindow":{"start":"` + from + `","end":"` + to + `"}}`)
	}
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    string // renewal date; empty for an error
	}{
		{"window in the past", window("2001-01-01T00:00:00Z", "2001-01-02T00:00:00Z"), "2001-01-01"},
		{"window in the far future", window("9998-01-01T00:00:00Z", "9998-01-01T12:00:00Z"), "9998-01-01"},
		{"inverted window", window("2027-02-02T00:00:00Z", "2027-01-01T00:00:00Z"), ""},
		{"empty window", window("2027-02-02T00:00:00Z", "2027-02-02T00:00:00Z"), ""},
		{"window without end", respond(`{"suggestedWindow":{"start":"2027-02-02T00:00:00Z"}}`), ""},
		{"invalid times", window("soon", "later"), ""},
		{"no window", respond(`{}`), ""},
		{"not JSON", respond(`<html>`), ""},
		{"empty body", respond(``), ""},
		{"null", respond(`null`), ""},
		{"redirect loop", redirectLoop, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ca := newFakeCA(t, tt.handler)
			log, _ := newLog()
			s := &settings{names: []string{testName}, cas: []*caClient{ca.caClient}, Config: Config{Logger: log}}
			e := newCertmagicEngine(s, newBufferedStorage(certmagicStorage(noStorage{}), log), noStorage{})
			defer e.close()
			ctx, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond) // the library makes three attempts
			defer cancel()
			cert := tlsPair(t, testName, time.Now(), time.Now().Add(time.Hour))
			cert.Leaf.AuthorityKeyId = []byte{1} // part of the ARI certificate ID
			r, err := e.fetchRenewalInfo(ctx, &stored{cert, ca.caClient})
			if (err == nil) != (tt.want != "") || err == nil && r.At.Format(time.DateOnly) != tt.want {
				t.Errorf("got %v, %v; want %q", r.At, err, tt.want)
			}
			if n := ca.requests.Load(); n < 1 || n > 30 {
				t.Errorf("got %d requests, want 1 to 30", n)
			}
		})
	}
}

// A redirect loop at the directory ends after a few requests.
func TestDirectoryRedirectLoop(t *testing.T) {
	ca := newFakeCA(t, redirectLoop)
	ca.url = strings.TrimSuffix(ca.url, "directory")
	if _, err := ca.fetchDirectory(t.Context()); err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("got %v, want an error about redirects", err)
	}
	if n := ca.requests.Load(); n > 10 {
		t.Errorf("got %d requests, want at most 10", n)
	}
}

// Endless CA responses do not exhaust memory, neither for the directory nor with
// autocert. With certmagic they can, see docs/known.md.
func TestEndlessResponses(t *testing.T) {
	for _, kind := range []string{"application/json", "application/problem+json", "text/plain"} {
		var sentBytes atomic.Int64
		ca := newFakeCA(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Replay-Nonce", "nonce")
			w.Header().Set("Content-Type", kind)
			if kind == "application/problem+json" {
				w.WriteHeader(http.StatusBadRequest)
			}
			if r.Method == http.MethodHead {
				return
			}
			_, err := fmt.Fprint(w, `{"status":"`)
			for text := strings.Repeat("x", 64<<10); err == nil && sentBytes.Load() < 64<<20; sentBytes.Add(int64(len(text))) {
				_, err = fmt.Fprint(w, text)
			}
		})
		log, _ := newLog()
		e := newAutocertEngine(&settings{cas: []*caClient{ca.caClient}, Config: Config{Logger: log}}, newBufferedStorage(certmagicStorage(dirStorage{t.TempDir(), log}), log), noStorage{})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := e.order(ctx, order{name: testName, ca: ca.caClient, challengeType: e.challengeTypes()[0]}); err == nil || ctx.Err() != nil {
			t.Errorf("%s: order: got %v (context: %v), want an error before the timeout", kind, err, ctx.Err())
		}
		ca.url = strings.TrimSuffix(ca.url, "directory")
		if _, err := ca.fetchDirectory(t.Context()); err == nil {
			t.Errorf("%s: fetchDirectory: got no error for an endless response", kind)
		}
		// Socket buffers count as sent.
		if n := sentBytes.Load(); n < maxResponseBytes/2 || n > 32<<20 {
			t.Errorf("%s: got %d bytes sent, want a few MiB per request", kind, n)
		}
	}
}
