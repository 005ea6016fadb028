package tlsmgr

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme/autocert"
)

// The autocert.Manager reads the certificate from the cache once per order. A second
// read starts an automatic renewal, so it ends the goroutine.
func TestAutocertRenewalTimerStops(t *testing.T) {
	log, _ := newLog()
	e := newAutocertEngine(&settings{Config: Config{Logger: log}}, newBufferedStorage(certmagicStorage(dirStorage{t.TempDir(), log}), log), noStorage{})
	c := &orderCache{engine: e, order: order{name: "one.example", ca: &caClient{storageKey: "ca"}}}
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
	if caErrors, _ := o.result(); len(caErrors) != 1 || caErrors[0] != "http-01: no route" {
		t.Errorf("got %q, want one error", caErrors)
	}
	o.next = &fakeTransport{resp: &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"90"}}}}
	if _, err := roundTrip(t, o); err != nil {
		t.Fatal(err)
	}
	if _, wait := o.result(); wait != 90*time.Second {
		t.Errorf("got Retry-After %v, want 90 s", wait)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for field, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, "-5": 0, "soon": 0, "999999999999": maxRetryAfter,
		"Sun, 22 Nov 2026 12:10:00 GMT": 10 * time.Minute, "Mon, 22 Nov 2027 12:10:00 GMT": maxRetryAfter, "Sun, 22 Nov 2020 12:10:00 GMT": 0,
	} {
		if got := parseRetryAfter(http.Header{"Retry-After": {field}}, now); got != want {
			t.Errorf("Retry-After %q: got %v, want %v", field, got, want)
		}
	}
}

// Connection errors and overload count as an unavailable CA and are retried soon.
// Client errors and an invalid certificate count as a rejection.
func TestClassifyOrderError(t *testing.T) {
	for status, want := range map[int]outcome{0: caUnavailable, 429: caUnavailable, 500: caUnavailable, 503: caUnavailable, 400: caRejected, 403: caRejected} {
		if got := classify(status, 0, io.EOF).outcome; got != want {
			t.Errorf("status %d: got outcome %d, want %d", status, got, want)
		}
	}
	if got := autocertError(io.EOF, &responseTap{sawCertificate: true}); got.outcome != caRejected {
		t.Errorf("after an invalid certificate: got outcome %d, want %d", got.outcome, caRejected)
	}
}
