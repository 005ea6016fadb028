package topics

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"inbox/internal/problem"
)

var upgradeFields = []string{
	"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
}

func with(fields ...string) []string { return append(fields, upgradeFields...) }

func TestResponses(t *testing.T) {
	open := Config{}
	narrow := Config{Origins: []string{"https://app.example"}, CrossSiteDetail: "Ask the operator."}
	unavailable := Config{Unavailable: "Topics are in the memory of one server."}
	const any = "Access-Control-Allow-Origin: *"
	for _, tt := range []struct {
		name   string
		config Config
		method string
		fields []string
		status int
		kind   string // of the problem, or the body
		header string
	}{
		{"GET", open, "GET", nil, 200, "okay", any},
		{"HEAD", open, "HEAD", nil, 200, "", any},
		{"OPTIONS", open, "OPTIONS", []string{"Origin: https://x.example"}, 204, "", any},
		{"POST", open, "POST", nil, 405, "method-not-allowed", "Allow: GET, HEAD, OPTIONS"},
		{"WebSocket", open, "GET", with("Origin: https://x.example"), 101, "", "Upgrade: websocket"},
		{"WebSocket of a file", open, "GET", with("Origin: null"), 101, "", ""},
		{"no key", open, "GET", []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"}, 400, "bad-request", any},
		{"old version", open, "GET", []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 8", "Sec-WebSocket-Key: x"},
			426, "upgrade-required", "Sec-WebSocket-Version: 13"},
		{"WebSocket of a listed origin", narrow, "GET", with("Origin: https://app.example"), 101, "", ""},
		{"WebSocket of another origin", narrow, "GET", with("Origin: https://x.example"), 403, "cross-site", ""},
		{"WebSocket of no browser", narrow, "GET", with(), 101, "", ""},
		{"GET of a listed origin", narrow, "GET", []string{"Origin: https://app.example"}, 200, "okay", "Access-Control-Allow-Origin: https://app.example"},
		{"GET of another origin", narrow, "GET", []string{"Origin: https://x.example"}, 200, "okay", "Access-Control-Allow-Origin: "},
		{"unavailable", unavailable, "GET", nil, 503, "topics-unavailable", any},
		{"unavailable WebSocket", unavailable, "GET", with(), 503, "topics-unavailable", any},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, tt.config, Limits{})
			resp, body := s.get(t, tt.method, tt.fields...)
			if resp.StatusCode != tt.status {
				t.Errorf("got status %d, want %d", resp.StatusCode, tt.status)
			}
			if strings.HasPrefix(body, "{") {
				var doc problem.Problem
				if err := json.Unmarshal([]byte(body), &doc); err != nil || doc.Detail == "" || doc.Status != tt.status {
					t.Errorf("got %v and %s", err, body)
				}
				body = doc.Kind()
			}
			if body != tt.kind {
				t.Errorf("got %q, want %q", body, tt.kind)
			}
			if name, value, ok := strings.Cut(tt.header, ": "); ok && resp.Header.Get(name) != value {
				t.Errorf("got %s: %s, want %s", name, resp.Header.Get(name), value)
			}
		})
	}
}

func TestEnterRefuses(t *testing.T) {
	s := newTestServer(t, Config{Enter: func(*http.Request) (Client, error) { return nil, refusal{} }}, Limits{})
	if resp, _ := s.get(t, "GET", upgradeFields...); resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("got status %d, want 429", resp.StatusCode)
	}
}

type refusal struct{}

func (refusal) Error() string                { return "refused" }
func (refusal) Refuse(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) }

// TestLeaveIsCalled checks that each client that entered leaves, whatever happened to it.
func TestLeaveIsCalled(t *testing.T) {
	of := &testClient{}
	s := newTestServer(t, Config{Enter: of.enter}, Limits{})
	s.get(t, "GET", upgradeFields...)
	s.dial(t).conn.Close()
	eventually(t, "both have left", func() bool { return of.left.Load() == 2 })
}

func TestStop(t *testing.T) {
	s := newTestServer(t, Config{}, Limits{})
	c := s.dial(t)
	c.send(`{"type":"subscribe","topics":["a"]}`)
	c.sync()
	s.Stop(1012)
	if code := c.closeCode(); code != 1012 {
		t.Errorf("got close code %d, want 1012", code)
	}
	if resp, _ := s.get(t, "GET", upgradeFields...); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got status %d, Retry-After %q, want 503 and a time", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	c.conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	if err := s.Wait(ctx); err != nil {
		t.Error(err)
	}
	gone, cancel := context.WithDeadline(ctx, time.Now())
	defer cancel()
	if err := s.Wait(gone); err != nil {
		t.Errorf("got %v without connections", err)
	}
}
