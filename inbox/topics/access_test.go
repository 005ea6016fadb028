package topics

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"inbox/inbox"
	"inbox/internal/problem"

	"github.com/gobwas/ws"
)

// fakeAccess admits the tokens that it has.
type fakeAccess struct {
	mu     sync.Mutex
	valid  map[string]bool
	outage error
}

var (
	errRequired = problem.New(http.StatusForbidden, "invitation-required", "This server is private", "Open your invitation link first.")
	errExpired  = problem.New(http.StatusForbidden, "invitation-expired", "The invitation has expired", "Ask for a new one.")
)

func (f *fakeAccess) AdmitMember(token string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	valid, known := f.valid[token]
	switch {
	case f.outage != nil:
		return f.outage
	case !known:
		return errRequired
	case !valid:
		return errExpired
	}
	return nil
}

func (f *fakeAccess) set(token string, valid bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.valid[token] = valid
}

// TestPrivateTopics checks that a handshake needs an invitation, and that the log has none.
func TestPrivateTopics(t *testing.T) {
	var log bytes.Buffer
	access := &fakeAccess{valid: map[string]bool{"secret_valid": true, "secret_old": false}}
	s := newTestServer(t, Config{Access: access, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, Limits{})
	for _, row := range []struct {
		query  string
		status int
		kind   string
	}{
		{"?invite=secret_valid", 101, ""},
		{"?a=b&invite=secret_valid", 101, ""},
		{"", 403, "invitation-required"},
		{"?invite=", 403, "invitation-required"},
		{"?invite=secret_valid2", 403, "invitation-required"},
		{"?invite=secret_val", 403, "invitation-required"},
		{"?invite=" + strings.Repeat("secret", 1000), 403, "invitation-required"},
		{"?invite=secret_old", 403, "invitation-expired"},
	} {
		resp, body := s.getPath(t, "/topics"+row.query, "GET", upgradeFields...)
		if resp.StatusCode != row.status || !strings.Contains(body, row.kind) || strings.Contains(body, "secret") {
			t.Errorf("%.40s: got %d %s", row.query, resp.StatusCode, body)
		}
	}
	if got := s.Refusals(); got["invitation-required"] != 5 || got["invitation-expired"] != 1 {
		t.Errorf("got the refusals %v", got)
	}
	if resp, body := s.get(t, "GET"); resp.StatusCode != 200 || body != "okay" {
		t.Errorf("a plain GET: got %d %s", resp.StatusCode, body)
	}
	access.outage = inbox.ErrStoreUnavailable
	if resp, _ := s.getPath(t, "/topics?invite=secret_valid", "GET", upgradeFields...); resp.StatusCode != 503 {
		t.Errorf("an outage: got %d", resp.StatusCode)
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("got the log\n%s", log.String())
	}
}

// TestTopicsEndWithTheirInvitation checks that CheckAccess closes the connections of a token, and
// no others.
func TestTopicsEndWithTheirInvitation(t *testing.T) {
	access := &fakeAccess{valid: map[string]bool{"a": true, "b": true}}
	s := newTestServer(t, Config{Access: access}, Limits{})
	a, b := s.dialPath(t, "/topics?invite=a"), s.dialPath(t, "/topics?invite=b")
	for _, c := range []*client{a, b} {
		c.send(`{"type":"subscribe","topics":["room"]}`)
		c.sync()
	}
	s.CheckAccess()
	access.outage = errors.Join(inbox.ErrStoreUnavailable)
	s.CheckAccess() // ends nothing
	access.outage = nil
	access.set("a", false)
	b.sync()
	s.CheckAccess()
	if code := a.closeCode(); code != ws.StatusPolicyViolation {
		t.Errorf("got the close code %d, want 1008", code)
	}
	a.conn.Close()
	eventually(t, "the member has left", func() bool { return s.Stats().Members == 1 })
	b.sync()
	s.access.mu.Lock()
	defer s.access.mu.Unlock()
	if len(s.access.sockets) != 1 {
		t.Errorf("got %d connections with a token, want 1", len(s.access.sockets))
	}
}
