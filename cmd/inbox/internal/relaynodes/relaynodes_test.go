package relaynodes

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestStoppingNodeSendsRevoked checks that a deletion just before a node stops gets to the relay.
func TestStoppingNodeSendsRevoked(t *testing.T) {
	for _, row := range []struct {
		name       string
		store      *fakeStore
		sent, logs int
	}{
		{"store", &fakeStore{}, maxRevoked, 0},
		{"no store", &fakeStore{err: io.ErrUnexpectedEOF}, 0, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			var log strings.Builder
			n := New(row.store, "inbox:", slog.New(slog.NewTextHandler(&log, nil)))
			for range maxRevoked {
				n.Revoke("owner")
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			n.Run(ctx, nil)
			if len(row.store.entries) != row.sent || strings.Count(log.String(), "does not learn of deleted mailboxes") != row.logs {
				t.Errorf("got %d sent and the log %q, want %d sent", len(row.store.entries), log.String(), row.sent)
			}
		})
	}
}

// fakeStore has the commands that nodes use.
type fakeStore struct {
	month   any
	entries []any
	err     error
}

func (f *fakeStore) Do(ctx context.Context, command []string, _ string, args ...string) (any, error) {
	if err := cmp.Or(f.err, ctx.Err()); err != nil {
		return nil, err
	}
	switch command[0] {
	case "GET":
		return f.month, nil
	case "SET":
		f.month = args[0]
	case "DEL":
		f.month = nil
	case "XADD":
		id := time.Now().Format("20060102150405.000000000")
		f.entries = append(f.entries, []any{id, []any{args[len(args)-2], args[len(args)-1]}})
	case "XRANGE":
		return f.entries, nil
	}
	return nil, nil
}

func TestNodesWithoutStore(t *testing.T) {
	store := &fakeStore{err: io.ErrUnexpectedEOF}
	n := New(store, "inbox:", slog.New(slog.DiscardHandler))
	for range maxRevoked + 10 {
		n.Revoke("owner")
	}
	n.Exchange(t.Context(), nil)
	if len(n.waiting) != maxRevoked {
		t.Errorf("got %d waiting owners, want %d", len(n.waiting), maxRevoked)
	}
	store.err = nil
	for range 11 {
		n.Exchange(t.Context(), nil)
	}
	if len(n.waiting) != 0 || len(store.entries) != maxRevoked {
		t.Errorf("got %d waiting and %d sent, want all sent", len(n.waiting), len(store.entries))
	}
}

func TestStreamEntries(t *testing.T) {
	for _, entry := range []any{nil, "x", []any{}, []any{"1-0"}, []any{1, 2}, []any{"1-0", []any{"owner"}}} {
		if _, r := streamEntry(entry); r != (revocation{}) {
			t.Errorf("%v: got %q", entry, r)
		}
	}
	if id, r := streamEntry([]any{"5-1", []any{"owner", "abc"}}); id != "5-1" || r != (revocation{revokedOwner, "abc"}) {
		t.Errorf("got %q, %q", id, r)
	}
	if got, want := timeOfID("1526919030474-3"), time.UnixMicro(1526919030474999); !got.Equal(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
