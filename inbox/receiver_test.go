package inbox_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// outageStore is a store whose Next and Watch fail until a time.
type outageStore struct {
	*memstore.Store
	until     time.Time
	failWatch bool
}

func (s *outageStore) Next(ctx context.Context, c inbox.Claim, after uint64) (inbox.Message, error) {
	if time.Now().Before(s.until) {
		return inbox.Message{}, inbox.ErrStoreUnavailable
	}
	return s.Store.Next(ctx, c, after)
}

func (s *outageStore) Watch(c inbox.Claim, notify func(error)) (func(), error) {
	if s.failWatch {
		return nil, inbox.ErrStoreUnavailable
	}
	return s.Store.Watch(c, notify)
}

func TestWaitNextOutlivesAnOutage(t *testing.T) {
	for _, row := range []struct {
		name      string
		outage    time.Duration
		failWatch bool
		want      error
		took      time.Duration
	}{
		{"none", 0, false, nil, 5 * time.Second},
		{"short", 8500 * time.Millisecond, false, nil, 9 * time.Second},
		{"longer than the wait", time.Minute, false, inbox.ErrEmpty, 20 * time.Second},
		{"at the start", 0, true, inbox.ErrStoreUnavailable, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				s := &outageStore{memstore.New(inbox.Limits{Timeout: time.Minute}), began.Add(row.outage), row.failWatch}
				bob, err := s.Open(t.Context(), "bob", inbox.Key{}, &inbox.Payer{})
				if err != nil {
					t.Fatal(err)
				}
				put := time.AfterFunc(5*time.Second, func() { s.Put(context.Background(), "bob", inbox.Message{}, 0) })
				defer put.Stop()
				_, err = inbox.WaitNext(t.Context(), s, bob, 0, 20*time.Second)
				if took := time.Since(began); !errors.Is(err, row.want) || took != row.took {
					t.Errorf("got %v after %v, want %v after %v", err, took, row.want, row.took)
				}
			})
		})
	}
}

// eventStore is a store whose watches get events at once.
type eventStore struct {
	*memstore.Store
	events []error
}

func (s *eventStore) Watch(_ inbox.Claim, notify func(error)) (func(), error) {
	for _, e := range s.events {
		notify(e)
	}
	return func() {}, nil
}

// TestWaitNextEndsWithTheWatch checks that neither an earlier nor a later event hides
// the end of a watch.
func TestWaitNextEndsWithTheWatch(t *testing.T) {
	for _, events := range [][]error{
		{inbox.ErrSuperseded}, {nil, inbox.ErrSuperseded}, {nil, nil, inbox.ErrSuperseded, nil},
	} {
		s := &eventStore{memstore.New(inbox.Limits{Timeout: time.Minute}), events}
		bob, err := s.Open(t.Context(), "bob", inbox.Key{}, &inbox.Payer{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := inbox.WaitNext(t.Context(), s, bob, 0, time.Minute); !errors.Is(err, inbox.ErrSuperseded) {
			t.Errorf("%v: got %v, want ErrSuperseded", events, err)
		}
	}
}

// lateStore puts a message just after a Next has found none.
type lateStore struct {
	eventStore
	late bool
}

func (s *lateStore) Watch(c inbox.Claim, notify func(error)) (func(), error) {
	stop, err := s.Store.Watch(c, notify)
	notify(nil) // spurious
	return stop, err
}

func (s *lateStore) Next(ctx context.Context, c inbox.Claim, after uint64) (inbox.Message, error) {
	m, err := s.Store.Next(ctx, c, after)
	if errors.Is(err, inbox.ErrEmpty) && !s.late {
		s.late = true
		s.Put(ctx, c.Name, inbox.Message{From: "late"}, 0)
	}
	return m, err
}

// TestNoticeWhileReading checks that a message is not missed that comes between a read that found
// none and the wait.
func TestNoticeWhileReading(t *testing.T) {
	s := &lateStore{eventStore: eventStore{Store: memstore.New(inbox.Limits{Timeout: time.Minute})}}
	bob, err := s.Open(t.Context(), "bob", inbox.Key{}, &inbox.Payer{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := inbox.WaitNext(t.Context(), s, bob, 0, 10*time.Second)
	if err != nil || m.From != "late" {
		t.Errorf("got %+v, %v, want the message", m, err)
	}
}
