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

// Every command is observed with its outcome, except canceled ones.
func TestOutcomesAreObserved(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	var counts [NumOutcomes]atomic.Int64
	s := newStore(t, "redis://"+redis.addr(), Config{Observe: func(o Outcome, took time.Duration) {
		if took <= 0 || took > 3*time.Second {
			t.Errorf("got outcome %v after %v, want the duration of one command", o, took)
		}
		counts[o].Add(1)
	}})
	want := func(what string, o Outcome, f func() error) {
		t.Helper()
		before := counts[o].Load()
		err := f()
		if n := counts[o].Load() - before; n != 1 {
			t.Errorf("%s (%v): got %d outcomes %v, want 1", what, err, n, o)
		}
	}
	bob := open(t, s, "bob")
	send := func() error { return tryPut(t, s, "bob", inbox.Message{From: "alice"}) }
	want("put", Answered, send)
	want("put to an unclaimed name", Answered, func() error { return tryPut(t, s, "carol", inbox.Message{}) })
	do := func(command, key string) func() error {
		return func() error { _, err := s.Do(t.Context(), []string{command}, Prefix+key); return err }
	}
	want("command of another package", Answered, do("GET", "none"))
	want("unknown command", Refused, do("NONSENSE", "x"))
	redis.do("CONFIG", "SET", "maxmemory", "1")
	want("put into a full store", Full, func() error {
		_, err := s.put(t.Context(), s.session.Load(), new(s.newPutRequest(s.session.Load(), "bob", &inbox.Message{})), 0)
		return err
	})
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	before := counts[Unavailable].Load()
	if _, err := s.Next(canceled, bob, 0); !errors.Is(err, context.Canceled) || counts[Unavailable].Load() != before {
		t.Errorf("canceled: got %v, and %d more outcomes Unavailable, want none", err, counts[Unavailable].Load()-before)
	}
	if n := s.Outages(); n != 0 {
		t.Errorf("got %d outages, want none yet", n)
	}
	redis.kill()
	want("put", Unavailable, send)
	eventually(t, "the outage was counted", func() bool { return s.Outages() == 1 })
	redis.start()
	eventually(t, "the store is available again", func() bool { return s.Ready() == nil })
	if n := s.Outages(); n != 1 {
		t.Errorf("got %d outages after one, want 1", n)
	}
}
