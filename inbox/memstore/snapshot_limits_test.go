package memstore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

func TestLoadHoldsTheLimits(t *testing.T) {
	snapshot := fourMailboxes(t)
	for _, tt := range []struct {
		name   string
		limits inbox.Limits
		want   memstore.SnapshotStats
		first  []string // what the one used last has
	}{
		{"none", inbox.Limits{}, memstore.SnapshotStats{Inboxes: 4, Messages: 12}, []string{"30", "31", "32"}},
		{"inboxes", inbox.Limits{MaxInboxes: 3}, memstore.SnapshotStats{Inboxes: 3, Messages: 9, DroppedInboxes: 1, DroppedMessages: 3}, []string{"30", "31", "32"}},
		{"inboxes of a payer", inbox.Limits{MaxInboxesPerPayer: 1}, memstore.SnapshotStats{Inboxes: 1, Messages: 3, DroppedInboxes: 3, DroppedMessages: 9}, []string{"30", "31", "32"}},
		{"messages", inbox.Limits{Capacity: 2}, memstore.SnapshotStats{Inboxes: 4, Messages: 8, DroppedMessages: 4}, []string{"30", "31"}},
		{"bytes", inbox.Limits{MaxQueuedBytes: 700}, memstore.SnapshotStats{Inboxes: 4, Messages: 4, DroppedMessages: 8}, []string{"30", "31", "32"}},
		{"bytes of a payer", inbox.Limits{MaxQueuedBytesPerPayer: 400}, memstore.SnapshotStats{Inboxes: 4, Messages: 2, DroppedMessages: 10}, []string{"30", "31"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.limits.Timeout = time.Minute
			m, stats := load(t, tt.limits, snapshot)
			if stats != tt.want {
				t.Errorf("got %+v, want %+v", stats, tt.want)
			}
			if got := m.Stats(); got.Inboxes != stats.Inboxes {
				t.Errorf("got stats of %d mailboxes, want %d", got.Inboxes, stats.Inboxes)
			}
			c := open(t, m, "3", inbox.Payer{})
			if got := readAll(t, m, c); !slices.Equal(got, tt.first) {
				t.Errorf("got %q, want %q", got, tt.first)
			}
		})
	}
}

// fourMailboxes returns a snapshot of mailboxes 0 to 3, of which 3 was used last, each
// with three messages of one payer.
func fourMailboxes(t testing.TB) (snapshot []byte) {
	payer := inbox.Payer{Client: "payer", Network: "network"}
	m := memstore.New(minuteLimits)
	for i := range 4 {
		name := fmt.Sprint(i)
		if _, err := m.Open(t.Context(), name, keyOf(name), &payer); err != nil {
			t.Fatal(err)
		}
		for n := range 3 {
			msg := inbox.Message{Body: fmt.Append(nil, i*10+n)}
			if i == 0 {
				msg.Body = fmt.Append(nil, "0", n)
			}
			msg.Payer = payer
			if _, err := m.Put(t.Context(), name, msg, 0); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Millisecond)
	}
	return save(t, m)
}

// TestSameLimitsDropNothing checks that a store is restored completely under its own
// limits, though the share of a payer shrank while it was filled.
func TestSameLimitsDropNothing(t *testing.T) {
	limits := inbox.Limits{Timeout: time.Minute, Capacity: 50, MaxInboxes: 300, MaxInboxesPerPayer: 20,
		MaxQueuedBytes: 8 << 20, MaxQueuedBytesPerPayer: 2 << 20}
	m := memstore.New(limits)
	for i := range 4000 {
		payer := inbox.Payer{Client: fmt.Sprint(i / 80), Network: []string{"", "one", "two"}[i%3]}
		name := fmt.Sprint(rand.IntN(400))
		if _, err := m.Open(t.Context(), name, keyOf(name), &payer); err == nil {
			_, _ = m.Put(t.Context(), name, inbox.Message{Body: make([]byte, rand.IntN(64<<10)), Payer: payer}, 0) // until it is refused
		}
	}
	was := m.Stats()
	again, stats := load(t, limits, save(t, m))
	if was.QueuedBytes < limits.MaxQueuedBytes*3/4 {
		t.Fatalf("the store holds %d bytes, too little for the test", was.QueuedBytes)
	}
	if stats.DroppedInboxes+stats.DroppedMessages > 0 || again.Stats() != was {
		t.Errorf("got %+v with %+v, want %+v", stats, again.Stats(), was)
	}
}

// TestLoadedPayersAreCharged checks that loaded messages count against their payers
// until they are discarded.
func TestLoadedPayersAreCharged(t *testing.T) {
	limits := inbox.Limits{Timeout: time.Minute, MaxQueuedBytesPerPayer: 1000, MaxInboxesPerPayer: 1}
	payer := inbox.Payer{Client: "payer"}
	m := memstore.New(limits)
	open(t, m, "bob", payer)
	msg := inbox.Message{Body: make([]byte, 800), Payer: payer}
	if _, err := m.Put(t.Context(), "bob", msg, 0); err != nil {
		t.Fatal(err)
	}
	m, _ = load(t, limits, save(t, m))
	if _, err := m.Put(t.Context(), "bob", msg, 0); !errors.Is(err, inbox.ErrPayerFull) {
		t.Errorf("put: got %v, want ErrPayerFull", err)
	}
	if _, err := m.Open(t.Context(), "carol", keyOf("carol"), &payer); !errors.Is(err, inbox.ErrPayerFull) {
		t.Errorf("open: got %v, want ErrPayerFull", err)
	}
	readAll(t, m, open(t, m, "bob", payer))
	if _, err := m.Put(t.Context(), "bob", msg, 0); err != nil {
		t.Errorf("put after it was discarded: %v", err)
	}
}
