//go:build unix

package server

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/sdnotify"
)

// TestWatchdogRetries checks that a failed self-test is retried in time, so that systemd does
// not kill a server that was busy for a moment.
func TestWatchdogRetries(t *testing.T) {
	t.Parallel()
	const interval, busy = 8 * time.Second, 2200 * time.Millisecond
	m := newServiceManager(t)
	test := newWatchdogServer(t).newSelfTest()
	acceptAll(t, test.probes[0])
	var requests atomic.Int64
	serve := test.handler
	test.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 3 { // of the second test; each sends two requests
			time.Sleep(busy)
		}
		serve.ServeHTTP(w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); m.runWatchdog(ctx, interval, test) }()
	defer func() { cancel(); <-ended }()
	var last time.Time
	for range 3 {
		if _, ok := m.next(2 * interval); !ok {
			t.Fatal("no watchdog message")
		}
		if gap := time.Since(last); !last.IsZero() && gap > interval-interval/20 {
			t.Errorf("no watchdog message for %v, want one well within %v", gap, interval)
		}
		last = time.Now()
	}
}

// TestWatchdogDoesNotNotifyWhenHung checks that a hung server sends no watchdog message, so
// that systemd restarts it.
func TestWatchdogDoesNotNotifyWhenHung(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	// Nothing accepts connections, which the second test detects.
	m.runWatchdog(ctx, 400*time.Millisecond, newWatchdogServer(t).newSelfTest())
	m.await("WATCHDOG=1")
	if lines, more := m.next(100 * time.Millisecond); more {
		t.Errorf("unexpected message from a hung server: %q", lines)
	}
}

// runWatchdog runs the watchdog with notifications to m.
func (m *serviceManager) runWatchdog(ctx context.Context, interval time.Duration, test *selfTest) {
	notify := sdnotify.NewNotifier(m.process().Getenv, discardLog)
	runWatchdog(ctx, interval, test, notify, func() string { return "" }, discardLog)
}

// newWatchdogServer builds a server that reports that it is serving, but does not accept
// connections.
func newWatchdogServer(t *testing.T, args ...string) *server {
	t.Helper()
	srv := newTestServer(t, args...)
	srv.health.serving.Store(true)
	return srv
}

// acceptAll accepts and closes connections until the test ends.
func acceptAll(t *testing.T, l net.Listener) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

func TestSelfTest(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Millisecond
	srv := newWatchdogServer(t)
	test := srv.newSelfTest()
	if err := test.run(t.Context(), timeout); err != nil {
		t.Errorf("first test: got %v, want nil", err)
	}
	if err := test.run(t.Context(), timeout); err == nil || !strings.Contains(err.Error(), "does not accept") {
		t.Errorf("no accept: got %v", err)
	}
	srv.health.serving.Store(false)
	if err := test.run(t.Context(), timeout); err != nil {
		t.Errorf("no accept while stopping: got %v, want nil", err)
	}

	srv = newWatchdogServer(t)
	test = srv.newSelfTest()
	acceptAll(t, test.probes[0])
	for test.probes[0].steps.Load()%2 == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 3 {
		if err := test.run(t.Context(), 10*time.Second); err != nil {
			t.Errorf("healthy server: got %v, want nil", err)
		}
	}
	if got := srv.mailboxes.stats().Inboxes; got != 0 {
		t.Errorf("got %d mailboxes after the self-test, want 0", got)
	}

	serve := test.handler
	setHandler := func(h http.HandlerFunc) {
		test.pending.Lock() // until the pending request ends
		defer test.pending.Unlock()
		test.handler = h
	}
	release := make(chan struct{})
	setHandler(func(http.ResponseWriter, *http.Request) { <-release })
	if err := test.run(t.Context(), timeout); err == nil || !strings.Contains(err.Error(), "no response within") {
		t.Errorf("the handler hangs: got %v", err)
	}
	if err := test.run(t.Context(), timeout); err == nil || !strings.Contains(err.Error(), "still in progress") {
		t.Errorf("the handler still hangs: got %v", err)
	}
	close(release)
	setHandler(func(http.ResponseWriter, *http.Request) { panic("a bug") })
	if err := test.run(t.Context(), timeout); err == nil || !strings.Contains(err.Error(), "a bug") {
		t.Errorf("the handler panics: got %v", err)
	}
	for _, status := range []int{http.StatusInternalServerError, http.StatusMisdirectedRequest} {
		setHandler(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		if err := test.run(t.Context(), 10*time.Second); err == nil {
			t.Errorf("the handler answers %d: got no error", status)
		}
	}
	setHandler(serve.ServeHTTP)
	if err := test.run(t.Context(), 10*time.Second); err != nil {
		t.Errorf("healthy again: got %v, want nil", err)
	}
}

// TestAcceptProbe checks that an accept loop passes while it waits or makes progress, and
// fails when it does neither between two checks.
func TestAcceptProbe(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	probe := &acceptProbe{Listener: l, seen: -1}
	accept := func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if c, err = probe.Accept(); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	for _, tt := range []struct {
		name   string
		accept bool
		fails  bool
	}{
		{"before the first Accept", false, false},
		{"no Accept", false, true},
		{"a connection accepted", true, false},
		{"no further Accept", false, true},
	} {
		if tt.accept {
			accept()
		}
		if err := probe.check(); (err != nil) != tt.fails {
			t.Errorf("%s: got %v, want failure %v", tt.name, err, tt.fails)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = probe.Accept() // until the listener closes
	}()
	for probe.steps.Load()%2 == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 2 {
		if err := probe.check(); err != nil {
			t.Errorf("pending Accept: got %v, want nil", err)
		}
	}
	l.Close()
	<-done
}

// TestWatchdogIsNotLimited checks that the watchdog's requests pass every layer without
// being rejected or counted against a client, also with -trusted-proxies.
func TestWatchdogIsNotLimited(t *testing.T) {
	t.Parallel()
	srv := newWatchdogServer(t, "-rate", "1", "-burst", "1", "-max-inboxes", "1", "-max-inboxes-per-ip", "1", "-max-conns-per-ip", "1", "-trusted-proxies", "10.0.0.0/8")
	test := srv.newSelfTest()
	for range 200 {
		if err := test.request(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := srv.limits.Requests.Refused() + srv.limits.Polls.Share.Refused(); n != 0 {
		t.Errorf("got %d rejected watchdog requests, want 0", n)
	}
	for kind, n := range srv.handler.Refusals() {
		if n != 0 {
			t.Errorf("got %d watchdog requests rejected with %s, want 0", n, kind)
		}
	}
}

// TestSelfTestWithInternationalName checks that the watchdog uses the canonical form of the
// name of the server.
func TestSelfTestWithInternationalName(t *testing.T) {
	t.Parallel()
	srv := newWatchdogServer(t, "-domain", "Bücher.example.", "-acme-agree", "-acme-ca", "https://127.0.0.1:1/dir", "-http-bind", "127.0.0.1:0", "-https=true")
	if err := srv.newSelfTest().request(t.Context()); err != nil {
		t.Error(err)
	}
}
