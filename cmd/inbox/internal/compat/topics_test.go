package compat

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/limits"
	"inbox/inbox"
	"inbox/ratelimit"

	"github.com/prometheus/client_golang/prometheus"
)

// newTestTopics returns the topics of a server, with a limit of connections per address.
func newTestTopics(shared bool, rate int, log *bytes.Buffer) (*Protocols, *limits.Limits) {
	clientIP := &ratelimit.ClientIP{}
	clients := conn.NewClientResolver(clientIP, make([]byte, 32))
	lim := limits.New(limits.Config{Rate: rate, Burst: rate, MaxConnsPerIP: 2}, clientIP, clients)
	cfg := &config.Config{
		Compat:    []string{"topics"},
		Mailboxes: inbox.Limits{Timeout: time.Minute, MaxInboxes: 100, MaxInboxesPerPayer: 10, MaxQueuedBytes: 1 << 20},
	}
	if shared {
		cfg.Store = &config.Store{}
	}
	return New(cfg, Parts{Clients: clients, Limits: lim, Log: slog.New(slog.NewTextHandler(log, nil))}), lim
}

func TestTopicsRoute(t *testing.T) {
	pages := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	for _, tt := range []struct {
		name, path string
		shared     bool
		status     int
		body       string
	}{
		{"topics", "/topics", false, 200, "okay"},
		{"with a store", "/topics", true, 503, "urn:inbox:problem:topics-unavailable"},
		{"a page", "/topics/", false, http.StatusTeapot, ""},
	} {
		var log bytes.Buffer
		p, _ := newTestTopics(tt.shared, 0, &log)
		w := httptest.NewRecorder()
		p.Handler(pages).ServeHTTP(w, httptest.NewRequest("GET", tt.path, nil))
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
			t.Errorf("%s: got %d %s, want %d with %q", tt.name, w.Code, w.Body, tt.status, tt.body)
		}
		if said := strings.Contains(log.String(), "/topics answers 503"); said != tt.shared {
			t.Errorf("%s: the start says %q", tt.name, log.String())
		}
	}
}

// TestTopicsClient checks that a connection counts for its address.
func TestTopicsClient(t *testing.T) {
	var log bytes.Buffer
	_, lim := newTestTopics(false, 40, &log)
	clientIP := &ratelimit.ClientIP{}
	c := Parts{Limits: lim, Clients: conn.NewClientResolver(clientIP, make([]byte, 32))}
	r := httptest.NewRequest("GET", "/topics", nil)
	a, err := c.enterTopics(r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.enterTopics(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.enterTopics(r); err == nil {
		t.Error("a third connection of the address is open")
	}
	b.Leave()
	if b, err = c.enterTopics(r); err != nil {
		t.Error(err)
	}
	if a.Payer().Client == "" || a.Payer() != b.Payer() {
		t.Errorf("got the payers %v and %v, want one", a.Payer(), b.Payer())
	}
	if d, _ := a.Delay(); d != 0 {
		t.Errorf("got the delay %v for the first frame", d)
	}
	a.Charge(1000)
	if d, again := b.Delay(); !again || d <= 0 || d > time.Minute {
		t.Errorf("got the delay %v after an expensive frame, want some", d)
	}
	a.Leave()
	b.Leave()
}

func TestTopicsMetricsAndStop(t *testing.T) {
	var log bytes.Buffer
	p, _ := newTestTopics(false, 0, &log)
	metrics := make(chan prometheus.Metric, 100)
	p.Collect(metrics)
	close(metrics)
	found := ""
	for m := range metrics {
		found += m.Desc().String()
	}
	for _, name := range []string{"inbox_topics", "inbox_topic_members", "inbox_topic_queued_bytes", "inbox_compat_sockets"} {
		if !strings.Contains(found, `"`+name+`"`) {
			t.Errorf("the metric %s is missing", name)
		}
	}
	p.Stop(1012)
	if err := p.Wait(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestLimited checks that an opening handshake waits for a token, and that other requests are
// refused without one.
func TestLimited(t *testing.T) {
	var log bytes.Buffer
	p, lim := newTestTopics(false, 40, &log)
	h := p.Limited(lim.Requests.Handler, lim.Requests.Delay)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	serve := func(ctx context.Context, path string, upgrade bool) int {
		r := httptest.NewRequestWithContext(ctx, "GET", path, nil)
		if upgrade {
			r.Header.Set("Upgrade", "websocket")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for _, path := range []string{"/topics", "/"} {
		for serve(t.Context(), path, path == "/") != http.StatusTooManyRequests { // no handshake of a protocol waits
		}
	}
	for serve(gone, "/topics", true) != http.StatusTooManyRequests { // its client has left
	}
	if got := serve(t.Context(), "/topics", true); got != http.StatusTeapot {
		t.Errorf("an opening handshake: got %d, want it served", got)
	}
}
