package inbox_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"inbox/inbox"
)

func TestQuotaRefusalsHaveRetryAfter(t *testing.T) {
	payer := func(*http.Request) inbox.Payer { return inbox.Payer{Client: "payer"} }
	rows := []struct {
		kind   string
		status int
		change func(*inbox.Config, *inbox.Limits)
	}{
		{"inbox-full", 503, func(_ *inbox.Config, l *inbox.Limits) { l.Capacity = 1 }},
		{"server-full", 503, func(_ *inbox.Config, l *inbox.Limits) { l.MaxQueuedBytes = 300 }},
		{"payer-full", 429, func(c *inbox.Config, l *inbox.Limits) { c.Payer, l.MaxQueuedBytesPerPayer = payer, 300 }},
		{"too-many-inboxes", 503, func(_ *inbox.Config, l *inbox.Limits) { l.MaxInboxes = 1 }},
		{"payer-full", 429, func(c *inbox.Config, l *inbox.Limits) { c.Payer, l.MaxInboxesPerPayer = payer, 1 }},
	}
	for _, row := range rows {
		s := newRig(t, row.change)
		s.want(s.do("bob", "GET", "/inbox?wait=0", ""), 204, "")
		var w *httptest.ResponseRecorder
		for _, user := range []string{"bob", "bob", "alice"} {
			if w = s.do(user, "POST", "/inbox?to=bob", "hello"); w.Code != 200 {
				break
			}
		}
		s.wantProblem(w, row.status, row.kind)
		if row.status == 429 && (w.Header().Get("RateLimit") == "" || w.Header().Get("RateLimit-Policy") == "") {
			t.Errorf("%s: got no RateLimit fields in %v", row.kind, w.Header())
		}
		if after := w.Header().Get("Retry-After"); after < "1" || after > "5" {
			t.Errorf("%s: got Retry-After %q, want 1 to 5", row.kind, after)
		}
	}
}

// brokenStore fails to open mailboxes.
type brokenStore struct {
	inbox.Store
	err error
}

func (s brokenStore) Open(context.Context, string, inbox.Key, *inbox.Payer) (inbox.Claim, error) {
	return inbox.Claim{}, s.err
}

func (s brokenStore) OpenPut(context.Context, string, inbox.Key, string, inbox.Message) (inbox.Claim, uint64, error) {
	return inbox.Claim{}, 0, s.err
}

func (s brokenStore) OpenNext(context.Context, string, inbox.Key, uint64, inbox.Client) (inbox.Claim, inbox.Message, error) {
	return inbox.Claim{}, inbox.Message{}, s.err
}

func TestFailureIsLoggedNotSent(t *testing.T) {
	var log bytes.Buffer
	s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) {
		c.Store, c.Logger = brokenStore{err: errors.New("disk failure of the test")}, slog.New(slog.NewTextHandler(&log, nil))
	})
	w := s.do("bob", "POST", "/inbox?to=carol", "hello")
	s.wantProblem(w, 500, "internal")
	if strings.Contains(w.Body.String(), "disk failure") || !strings.Contains(log.String(), "disk failure") {
		t.Errorf("got answer %q and log %q, want the cause in the log only", w.Body, log.String())
	}
	for _, private := range []string{"bob", "carol", "hello", "Basic"} {
		if strings.Contains(log.String(), private) {
			t.Errorf("got log %q, want no %s in it", log.String(), private)
		}
	}
}

// TestRetryAfterIsSpread checks that Retry-After is random, and shorter for a
// restart or an outage.
func TestRetryAfterIsSpread(t *testing.T) {
	for _, row := range []struct {
		err  error
		kind string
		most int
	}{
		{inbox.ErrTooManyInboxes, "too-many-inboxes", 5}, {inbox.ErrStoreUnavailable, "store-unavailable", 2}, {inbox.ErrStopping, "stopping", 2},
	} {
		s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.Store = brokenStore{err: row.err} })
		seen := map[int]bool{}
		for range 200 {
			w := s.do("bob", "GET", "/inbox", "")
			s.wantProblem(w, 503, row.kind)
			after, _ := strconv.Atoi(w.Header().Get("Retry-After"))
			seen[after] = true
		}
		for after := range seen {
			if after < 1 || after > row.most {
				t.Errorf("%s: got Retry-After %d, want 1 to %d", row.kind, after, row.most)
			}
		}
		if len(seen) != row.most {
			t.Errorf("%s: got Retry-After of %v, want 1 to %d at random", row.kind, seen, row.most)
		}
		if got := s.Refusals()[row.kind]; got != 200 {
			t.Errorf("%s: %d refusals are counted, want 200", row.kind, got)
		}
	}
}
