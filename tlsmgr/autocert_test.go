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

// The Manager asks for the certificate once when it orders. When it asks again
// it wants to renew by itself, and the goroutine that does ends.
func TestManagersTimerEnds(t *testing.T) {
	log, _ := newLog()
	e := newAutocertEngine(&settings{Config: Config{Logger: log}}, newBufferedStorage(certmagicStorage(dirStorage{t.TempDir(), log}), log), noStorage{})
	c := &orderCache{engine: e, order: order{name: "one.example", ca: &caClient{storageKey: "ca"}}}
	if _, err := c.Get(t.Context(), "one.example"); !errors.Is(err, autocert.ErrCacheMiss) {
		t.Fatalf("first asked: %v, want a miss", err)
	}
	ended, returned := make(chan struct{}), false
	go func() {
		defer close(ended)
		c.Get(t.Context(), "one.example")
		returned = true
	}()
	<-ended
	if returned {
		t.Error("asked again: the goroutine went on")
	}
}

// scriptedRoute answers without a network.
type scriptedRoute struct {
	answer *http.Response
	asked  int
}

func (r *scriptedRoute) RoundTrip(*http.Request) (*http.Response, error) {
	r.asked++
	return r.answer, nil
}

func ask(t *testing.T, o *responseTap) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "https://ca.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return o.RoundTrip(r)
}

// Whoever goes on after the order is over reaches nobody.
func TestObserverEndsWithTheOrder(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	route := &scriptedRoute{}
	if _, err := ask(t, &responseTap{ctx: ctx, next: route}); err == nil || route.asked != 0 {
		t.Errorf("got %v after %d requests, want an error and none", err, route.asked)
	}
}

func TestObserverReadsAlong(t *testing.T) {
	const text = `{"status":"invalid","challenges":[{"type":"http-01","error":{"detail":"no route"}},{"type":"dns-01"}]}`
	header := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
	answer := &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(strings.NewReader(text))}
	o := &responseTap{ctx: t.Context(), next: &scriptedRoute{answer: answer}}
	for range 2 {
		got, err := ask(t, o)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(got.Body)
		if err != nil || string(body) != text {
			t.Errorf("autocert reads %q, %v; want all of it", body, err)
		}
		answer.Body = io.NopCloser(strings.NewReader(text))
	}
	if said, _ := o.result(); len(said) != 1 || said[0] != "http-01: no route" {
		t.Errorf("read %q, want the one error, once", said)
	}
	o.next = &scriptedRoute{answer: &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"90"}}}}
	if _, err := ask(t, o); err != nil {
		t.Fatal(err)
	}
	if _, wait := o.result(); wait != 90*time.Second {
		t.Errorf("read a wait of %v, want 90 s", wait)
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

// An authority that was not reached, or has no time, is asked again soon; one
// that says no, or gave what cannot be used, is not.
func TestOutcomes(t *testing.T) {
	for status, want := range map[int]outcome{0: caUnavailable, 429: caUnavailable, 500: caUnavailable, 503: caUnavailable, 400: caRejected, 403: caRejected} {
		if got := classify(status, 0, io.EOF).outcome; got != want {
			t.Errorf("status %d: outcome %d, want %d", status, got, want)
		}
	}
	if got := autocertError(io.EOF, &responseTap{sawCertificate: true}); got.outcome != caRejected {
		t.Errorf("after a certificate of no use: outcome %d, want %d", got.outcome, caRejected)
	}
}
