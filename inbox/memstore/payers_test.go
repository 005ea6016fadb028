package memstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// TestPayersAreRefunded checks that a payer whose mailboxes are closed holds
// nothing: it can claim and queue as much as before, round after round.
func TestPayersAreRefunded(t *testing.T) {
	m := memstore.New(inbox.Limits{Timeout: time.Hour, MaxQueuedBytesPerPayer: 1000, MaxInboxesPerPayer: 1})
	for i := range 300 {
		n := i % 100
		p := inbox.Payer{Client: fmt.Sprint(n), Network: fmt.Sprint(n / 3)}
		c, err := m.Open(t.Context(), fmt.Sprint("peer ", n), inbox.Key{}, &p)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range []struct {
			body     string
			accepted bool
		}{{"kept", true}, {strings.Repeat("x", 1000), false}, {"kept", true}} {
			_, err := m.Put(t.Context(), c.Name, inbox.Message{Body: []byte(row.body), Payer: p}, 0)
			if (err == nil) != row.accepted {
				t.Fatalf("put %d bytes: got %v, want accepted %v", len(row.body), err, row.accepted)
			}
		}
		if _, err := m.Open(t.Context(), fmt.Sprint("second ", n), inbox.Key{}, &p); err == nil {
			t.Fatal("a payer has two mailboxes, want one")
		}
		if err := m.Close(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.Stats(); got != (inbox.Stats{}) {
		t.Errorf("got %+v, want nothing held", got)
	}
}
