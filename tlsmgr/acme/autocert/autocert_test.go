package autocert

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/tlstest"
	"inbox/tlsmgr/storage"
)

// The autocert.Manager reads the certificate from the cache once per order. A second
// read starts an automatic renewal, so it ends the goroutine.
func TestAutocertRenewalTimerStops(t *testing.T) {
	c := &orderCache{order: acme.Order{Name: "one.example"}}
	if _, err := c.Get(t.Context(), "one.example"); !errors.Is(err, autocert.ErrCacheMiss) {
		t.Fatalf("first Get: got %v, want a cache miss", err)
	}
	done, returned := make(chan struct{}), false
	go func() {
		defer close(done)
		c.Get(t.Context(), "one.example")
		returned = true
	}()
	<-done
	if returned {
		t.Error("second Get returned, want the goroutine to end")
	}
}

// fakeTransport returns a fixed response and counts requests.
type fakeTransport struct {
	resp     *http.Response
	requests int
}

func (r *fakeTransport) RoundTrip(*http.Request) (*http.Response, error) {
	r.requests++
	return r.resp, nil
}

func roundTrip(t *testing.T, o *responseTap) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "https://ca.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return o.RoundTrip(r)
}

// The transport sends no requests after the context of the order has ended.
func TestTransportStopsWithOrder(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	transport := &fakeTransport{}
	if _, err := roundTrip(t, &responseTap{ctx: ctx, next: transport}); err == nil || transport.requests != 0 {
		t.Errorf("got %v and %d requests, want an error and none", err, transport.requests)
	}
}

func TestTransportTapsResponses(t *testing.T) {
	const text = `{"status":"invalid","challenges":[{"type":"http-01","error":{"detail":"no route"}},{"type":"dns-01"}]}`
	header := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
	resp := &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(strings.NewReader(text))}
	o := &responseTap{ctx: t.Context(), next: &fakeTransport{resp: resp}}
	for range 2 {
		got, err := roundTrip(t, o)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(got.Body)
		if err != nil || string(body) != text {
			t.Errorf("got body %q, %v; want it unchanged", body, err)
		}
		resp.Body = io.NopCloser(strings.NewReader(text))
	}
	if caErrors := o.observed().validationErrors; len(caErrors) != 1 || caErrors[0] != "http-01: no route" {
		t.Errorf("got %q, want one error", caErrors)
	}
	o.next = &fakeTransport{resp: &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"90"}}}}
	if _, err := roundTrip(t, o); err != nil {
		t.Fatal(err)
	}
	if wait := o.observed().retryAfter; wait != 90*time.Second {
		t.Errorf("got Retry-After %v, want 90 s", wait)
	}
}

// A certificate that autocert cannot use counts as rejected.
func TestIssuedButUnusable(t *testing.T) {
	if got := orderError(io.EOF, &responseTap{seen: observation{issued: true}}); got.Outcome != schedule.CARejected {
		t.Errorf("got outcome %d, want CARejected", got.Outcome)
	}
}

// blockingStorage blocks reads once blocked is set, until unblock is closed.
type blockingStorage struct {
	storage.Storage
	blocked atomic.Bool
	unblock chan struct{}
}

func (s *blockingStorage) Load(ctx context.Context, key string) ([]byte, error) {
	if s.blocked.Load() {
		<-s.unblock
	}
	return s.Storage.Load(ctx, key)
}

// While autocert orders, its own challenges are answered from memory. Lookups of
// unknown tokens time out as usual and reach the fallback handler.
func TestServesChallengesDuringOrder(t *testing.T) {
	const lookupTimeout = 2 * time.Second
	log, _ := tlstest.NewLog()
	chain, key := tlstest.ValidPair(t, "one.example")
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		store := &blockingStorage{Storage: storage.NewDirectory(dir, log), unblock: make(chan struct{})}
		defer close(store.unblock)
		var e *engine
		issuer, err := acme.New(acme.Options{
			Config: acme.Config{Agreed: true, CA: acme.CA{URL: "https://ca.internal/directory"}, Engine: func(c *acme.Settings) (acme.Engine, error) {
				e = newEngine(c)
				return e, nil
			}},
			Domains: []string{"one.example", "two.example"}, Storage: store, Logger: log, OnCertificate: func(string, *tls.Certificate) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		cache := &orderCache{order: acme.Order{Name: "one.example", CA: e.CAs[0], Storage: store, Challenges: store}}
		for key, text := range map[string]string{"one.example" + tlsALPN01Suffix: string(chain) + string(key), "mine" + http01Suffix: "mine.thumb"} {
			if err := cache.Put(t.Context(), key, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		e.setOrder("one.example", cache)
		for _, name := range []string{"one.example", "two.example"} { // as while orders run
			lease, err := store.TryLock(t.Context(), "schedule/"+name+".lock")
			if err != nil {
				t.Fatal(err)
			}
			defer lease.Release()
		}
		store.blocked.Store(true)
		for _, tt := range []struct {
			host, token string
			want        int
			took        time.Duration
		}{
			{"one.example", "mine", http.StatusOK, 0},
			{"one.example", "other", http.StatusTeapot, lookupTimeout},
			{"one.example", "..%2Fmine", http.StatusTeapot, 0},
			{"one.example", "", http.StatusTeapot, 0},
			{"two.example", "other", http.StatusTeapot, lookupTimeout},
		} {
			began := time.Now()
			w := httptest.NewRecorder()
			issuer.HTTPHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })).
				ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://"+tt.host+acme.TokenPath+tt.token, nil))
			if took := time.Since(began); w.Code != tt.want || took != tt.took {
				t.Errorf("%s at %s: got %d after %v, want %d after %v", tt.token, tt.host, w.Code, took, tt.want, tt.took)
			}
		}
		for name, took := range map[string]time.Duration{"one.example": 0, "two.example": lookupTimeout} {
			began := time.Now()
			cert, err := issuer.Challenge(&tls.ClientHelloInfo{ServerName: name, SupportedProtos: []string{acme.ALPNProto}})
			if (cert != nil) != (took == 0) || err != nil || time.Since(began) != took {
				t.Errorf("tls-alpn-01 for %s: got %v, %v after %v, want a result after %v", name, cert, err, time.Since(began), took)
			}
		}
	})
}

// Endless CA responses do not exhaust memory.
func TestEndlessResponses(t *testing.T) {
	for _, kind := range []string{"application/json", "application/problem+json", "text/plain"} {
		var sentBytes atomic.Int64
		server := tlstest.NewCA(t, tlstest.Endless(kind, &sentBytes))
		ca, err := acme.NewCAClient(acme.CA{URL: server.URL, RootsFile: server.RootsFile})
		if err != nil {
			t.Fatal(err)
		}
		log, _ := tlstest.NewLog()
		temp := storage.NewDirectory(t.TempDir(), log)
		e := newEngine(&acme.Settings{CAs: []*acme.CAClient{ca}, Storage: temp, Challenges: temp, Log: log})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err = e.Order(ctx, acme.Order{Name: "one.example", CA: ca, ChallengeType: e.ChallengeTypes()[0], Storage: temp, Challenges: temp})
		if err == nil || ctx.Err() != nil {
			t.Errorf("%s: got %v (context: %v), want an error before the timeout", kind, err, ctx.Err())
		}
		if n := sentBytes.Load(); n < 512<<10 || n > 32<<20 { // socket buffers count as sent
			t.Errorf("%s: got %d bytes sent, want a few MiB per request", kind, n)
		}
	}
}
