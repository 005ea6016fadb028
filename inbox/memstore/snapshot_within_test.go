package memstore_test

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// TestSaveWithin saves four mailboxes, of which two have messages, into less and less
// space. The largest mailbox loses its messages first. Claims are lost last, those
// that were used least recently first.
func TestSaveWithin(t *testing.T) {
	newStore := func() *memstore.Store {
		m := memstore.New(minuteLimits)
		for _, name := range []string{"oldest", "small", "large", "newest"} {
			open(t, m, name, inbox.Payer{Client: "client", Network: "network"})
		}
		put(t, m, "small", "one")
		put(t, m, "large", strings.Repeat("x", 1000))
		put(t, m, "large", "two")
		return m
	}
	all := int64(len(save(t, newStore())))
	for _, row := range []struct {
		name       string
		limitBytes int64
		want       memstore.SnapshotStats
		small      []string
	}{
		{"no limit", math.MaxInt64, memstore.SnapshotStats{Inboxes: 4, Messages: 3}, []string{"one"}},
		{"just enough", all, memstore.SnapshotStats{Inboxes: 4, Messages: 3}, []string{"one"}},
		{"one byte less", all - 1, memstore.SnapshotStats{Inboxes: 4, Messages: 1, DroppedMessages: 2}, []string{"one"}},
		{"without messages", all - 1070, memstore.SnapshotStats{Inboxes: 4, DroppedMessages: 3}, nil},
		{"without the oldest", all - 1090, memstore.SnapshotStats{Inboxes: 3, DroppedInboxes: 1, DroppedMessages: 3}, nil},
		{"nothing", 0, memstore.SnapshotStats{DroppedInboxes: 4, DroppedMessages: 3}, nil},
		{"negative", -1, memstore.SnapshotStats{DroppedInboxes: 4, DroppedMessages: 3}, nil},
	} {
		m := newStore()
		var b bytes.Buffer
		got, err := m.SaveWithin(&b, snapshotKey, row.limitBytes)
		if err != nil || got != row.want {
			t.Errorf("%s: got %+v, %v; want %+v (of %d bytes)", row.name, got, err, row.want, all)
			continue
		}
		if row.limitBytes > 100 && int64(b.Len()) > row.limitBytes {
			t.Errorf("%s: got %d bytes, want at most %d", row.name, b.Len(), row.limitBytes)
		}
		loaded, stats := load(t, minuteLimits, b.Bytes())
		if stats.Inboxes != row.want.Inboxes || stats.Messages != row.want.Messages {
			t.Errorf("%s: restored %+v, want %+v", row.name, stats, row.want)
		}
		if row.want.Inboxes == 4 {
			if got := readAll(t, loaded, open(t, loaded, "small", inbox.Payer{})); !slices.Equal(got, row.small) {
				t.Errorf("%s: got messages %q, want %q", row.name, got, row.small)
			}
		}
	}
}
