package relaynodes

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"inbox/turn"
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
	added   int
	now     func() time.Time // nil is time.Now
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
	case "EVAL":
		for i := 2; i < len(args); i += 2 {
			f.added++
			f.entries = append(f.entries, []any{fmt.Sprintf("%d-%d", f.time().UnixMilli(), f.added), []any{args[i], args[i+1]}})
		}
		f.entries = f.entries[max(0, len(f.entries)-maxRevoked):]
	case "XLEN":
		return int64(len(f.entries)), nil
	case "XRANGE":
		return f.read(args[0], args[3]), nil
	}
	return nil, nil
}

func (f *fakeStore) time() time.Time {
	if f.now == nil {
		return time.Now()
	}
	return f.now()
}

// read returns the entries from an ID on, as they were added.
func (f *fakeStore) read(from, count string) []any {
	n, _ := strconv.Atoi(count)
	at := slices.IndexFunc(f.entries, func(e any) bool { return from == "-" || !isBefore(e.([]any)[0].(string), from) })
	if at < 0 {
		return nil
	}
	return f.entries[at:min(len(f.entries), at+n)]
}

func isBefore(id, other string) bool {
	var a, b [2]int
	fmt.Sscanf(id, "%d-%d", &a[0], &a[1])
	fmt.Sscanf(other, "%d-%d", &b[0], &b[1])
	return slices.Compare(a[:], b[:]) < 0
}

// TestRelayMissesNoRevocation checks that the credentials of revoked owners end if more of them wait,
// or are added to the stream, than either has room for, and that others do not end with them.
func TestRelayMissesNoRevocation(t *testing.T) {
	for _, row := range []struct {
		name  string
		burst func(one, two *Nodes)
	}{
		{"in the node", func(one, _ *Nodes) {
			for i := range maxRevoked + 1 {
				one.RevokeCredentials(fmt.Sprint(i))
			}
			one.RevokeCredentials("anna")
		}},
		{"in the stream", func(one, two *Nodes) {
			one.RevokeCredentials("anna")
			for i := range maxRevoked {
				one.RevokeCredentials(fmt.Sprint(i))
				two.RevokeCredentials(fmt.Sprint(i))
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			now := time.Now()
			store := &fakeStore{now: func() time.Time { return now }}
			server, err := turn.New(turn.Config{Secret: []byte("a secret of this test"), Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			relay, one, two := newNodes(store), newNodes(store), newNodes(store)
			relay.lastID = "0"
			one.RevokeCredentials("ben") // the relay has read something before
			one.Exchange(t.Context(), nil)
			relay.Exchange(t.Context(), server)
			if got := len(server.Revocations()); got != len(emptyRevocations(t)) {
				t.Fatalf("got %d bytes, want none: ben is no ID", got)
			}
			now = now.Add(time.Second)
			row.burst(one, two)
			one.Exchange(t.Context(), nil)
			two.Exchange(t.Context(), nil)
			relay.Exchange(t.Context(), server)
			if got := server.Revocations(); bytes.Equal(got, emptyRevocations(t)) {
				t.Error("the credentials of all owners are valid")
			}
		})
	}
}

func newNodes(store *fakeStore) *Nodes { return New(store, "inbox:", slog.New(slog.DiscardHandler)) }

func emptyRevocations(t *testing.T) []byte {
	t.Helper()
	server, err := turn.New(turn.Config{Secret: []byte("a secret of this test")})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	return server.Revocations()
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
	n.Exchange(t.Context(), nil)
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
