//go:build linux

package redisstore

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"inbox/inbox"
)

// Each command is told of, with how it ended; one that was given up is not.
func TestOutcomesAreTold(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	var counts [NumOutcomes]atomic.Int64
	s := newStore(t, "redis://"+redis.addr(), Config{Observe: func(o Outcome, took time.Duration) {
		if took <= 0 || took > 3*time.Second {
			t.Errorf("got %v of %v, want the time of one command", o, took)
		}
		counts[o].Add(1)
	}})
	want := func(what string, o Outcome, f func() error) {
		t.Helper()
		before := counts[o].Load()
		err := f()
		if n := counts[o].Load() - before; n != 1 {
			t.Errorf("%s (%v): got %d told as %v, want 1", what, err, n, o)
		}
	}
	bob := open(t, s, "bob")
	send := func() error { return s.Put(t.Context(), "bob", inbox.Message{From: "alice"}, 0) }
	want("put", Answered, send)
	want("a name that is not there", Answered, func() error { return s.Put(t.Context(), "carol", inbox.Message{}, 0) })
	want("of certificates", Answered, func() error { _, err := s.Do(t.Context(), []string{"GET"}, Prefix+"none"); return err })
	want("a command that there is not", Refused, func() error { _, err := s.Do(t.Context(), []string{"NONSENSE"}, Prefix+"x"); return err })
	redis.do("CONFIG", "SET", "maxmemory", "1")
	want("put into a full store", Full, func() error {
		return s.put(t.Context(), s.session.Load(), new(s.newPutRequest(s.session.Load(), "bob", &inbox.Message{})), 0, nil)
	})
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	before := counts[Unavailable].Load()
	if _, err := s.Next(canceled, bob, 0, 0); !errors.Is(err, context.Canceled) || counts[Unavailable].Load() != before {
		t.Errorf("given up: got %v, and %d more told as away, want none", err, counts[Unavailable].Load()-before)
	}
	if n := s.Outages(); n != 0 {
		t.Errorf("got %d outages, want none yet", n)
	}
	redis.kill()
	want("put", Unavailable, send)
	eventually(t, "the outage was counted", func() bool { return s.Outages() == 1 })
	redis.start()
	eventually(t, "the store is back", func() bool { return s.Ready() == nil })
	if n := s.Outages(); n != 1 {
		t.Errorf("got %d outages after one, want 1", n)
	}
}
