package memstore_test

import (
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

func watch(t *testing.T, m *memstore.Store, c inbox.Claim) (stop func()) {
	t.Helper()
	stop, err := m.Watch(c, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	return stop
}

// TestSweepSkipsWatchedMailboxes checks that watched mailboxes neither expire nor hide
// expired ones, in whatever order they were used.
func TestSweepSkipsWatchedMailboxes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memstore.New(minuteLimits)
		const each = 500
		var stops []func()
		for i := range 2 * each {
			c := open(t, m, name16(i), inbox.Payer{})
			if i%2 == 0 {
				stops = append(stops, watch(t, m, c))
			}
		}
		time.Sleep(time.Minute)
		if n := m.Sweep(); n != each {
			t.Errorf("swept %d mailboxes, want the %d that are not watched", n, each)
		}
		time.Sleep(time.Hour)
		if n := m.Sweep(); n != 0 {
			t.Errorf("swept %d mailboxes, want none", n)
		}
		for _, stop := range stops {
			stop()
		}
		time.Sleep(time.Minute - time.Nanosecond)
		if n := m.Sweep(); n != 0 {
			t.Errorf("swept %d mailboxes within the timeout after their watches, want none", n)
		}
		time.Sleep(time.Nanosecond)
		if n := m.Sweep(); n != each {
			t.Errorf("swept %d mailboxes after the timeout, want %d", n, each)
		}
	})
}

// TestWatchedMailboxIsSaved checks that Save ends a watch, and that the mailbox then has
// its whole timeout left.
func TestWatchedMailboxIsSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memstore.New(minuteLimits)
		bob := open(t, m, "bob", inbox.Payer{})
		stop := watch(t, m, bob)
		time.Sleep(10 * time.Minute)
		open(t, m, "alice", inbox.Payer{})
		snapshot := save(t, m)
		stop()
		m, stats := load(t, minuteLimits, snapshot)
		if stats.Inboxes != 2 {
			t.Fatalf("loaded %d mailboxes, want 2", stats.Inboxes)
		}
		time.Sleep(time.Minute - time.Nanosecond)
		if err := m.Discard(t.Context(), bob, 0); err != nil {
			t.Errorf("just before the timeout: got %v", err)
		}
		time.Sleep(time.Nanosecond)
		if n := m.Sweep(); n != 2 {
			t.Errorf("swept %d mailboxes after the timeout, want 2", n)
		}
	})
}
