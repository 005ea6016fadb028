package inbox_test

import (
	"context"
	"sync"
	"testing"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// failoverStore is a store that can lose its last messages, and then gives their IDs again.
type failoverStore struct {
	*memstore.Store
	mu     sync.Mutex
	ids    []uint64 // nil before
	notify func(error)
}

func (s *failoverStore) Watch(c inbox.Claim, notify func(error)) (func(), error) {
	s.notify = notify
	return s.Store.Watch(c, notify)
}

// Next reads from the oldest message if after is above every ID.
func (s *failoverStore) Next(ctx context.Context, c inbox.Claim, after uint64) (inbox.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids == nil {
		return s.Store.Next(ctx, c, after)
	}
	if after > s.ids[len(s.ids)-1] {
		after = 0
	}
	for _, id := range s.ids {
		if id > after {
			return inbox.Message{ID: id}, nil
		}
	}
	return inbox.Message{}, inbox.ErrEmpty
}

// TestReceiverSurvivesAFailover has a store go back to a state before messages that were received
// and acknowledged. The window of the receiver must not be full forever.
func TestReceiverSurvivesAFailover(t *testing.T) {
	store := new(failoverStore)
	s := newRig(t, func(c *inbox.Config, l *inbox.Limits) {
		store.Store = memstore.New(*l)
		c.Store = store
	})
	s.do("bob", "GET", "/inbox?wait=0", "")
	s.sendNumbers(1, 10)
	r := request("bob", "GET", "/inbox", "")
	woken := 0
	stream, err := s.OpenStream(r, true, 0, func() { woken++ })
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Leave()
	var got []uint64
	handOut := func() {
		t.Helper()
		if err := stream.HandOut(r, func(m inbox.Message) error { got = append(got, m.ID); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	handOut()
	first := got[0]
	if err := stream.Acknowledge(r, first+8); err != nil || len(got) != 10 {
		t.Fatalf("got %d messages, %v, want 10", len(got), err)
	}
	store.ids, got = []uint64{first + 4, first + 5, first + 6}, nil
	store.notify(nil)
	if handOut(); woken == 0 || len(got) != 3 || got[0] != first+4 || got[2] != first+6 {
		t.Errorf("got the messages %v of %v", got, store.ids)
	}
	if err := stream.Acknowledge(r, first+6); err != nil {
		t.Error(err)
	}
}
