//go:build linux

package redisstore

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"inbox/inbox"
)

var _ inbox.Store = (*Store)(nil)

var evalshaCalls = regexp.MustCompile(`cmdstat_evalsha:calls=(\d+)`)

// countRoundTrips returns how many scripts the store runs during f. It holds the lock
// of the usage cache to suspend sweeps.
func countRoundTrips(t testing.TB, s *Store, redis cluster, f func()) int {
	s.usage.mu.Lock()
	defer s.usage.mu.Unlock()
	count := func() (all int) {
		for _, srv := range redis {
			found := evalshaCalls.FindStringSubmatch(srv.do("INFO", "commandstats"))
			n, err := strconv.Atoi(found[1])
			if err != nil {
				t.Fatal(err)
			}
			all += n
		}
		return all
	}
	before := count()
	f()
	return count() - before
}

// The numbers of round trips in docs/scale.md.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	t.Run("one", func(t *testing.T) {
		t.Parallel()
		testRoundTrips(t, cluster{startServer(t)}, Config{}, 1)
	})
	t.Run("encrypted", func(t *testing.T) {
		t.Parallel()
		testRoundTrips(t, cluster{startServer(t)}, Config{Key: sharedKey}, 1)
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		testRoundTrips(t, startCluster(t, 0), Config{}, 2)
	})
}

func testRoundTrips(t *testing.T, redis cluster, cfg Config, post int) {
	s := newStore(t, redis.url(), cfg)
	open(t, s, "alice")
	bob := open(t, s, "bob")
	want := func(what string, want int, f func() error) {
		t.Helper()
		if n := countRoundTrips(t, s, redis, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}); n != want {
			t.Errorf("%s: got %d round trips, want %d", what, n, want)
		}
	}
	var m inbox.Message
	send := func() error {
		_, _, err := s.OpenPut(t.Context(), "alice", bobsKey, "bob", inbox.Message{From: "alice"})
		return err
	}
	want("open put", post, send)
	want("open next with a message", 1, func() (err error) {
		_, m, err = s.OpenNext(t.Context(), "bob", bobsKey, 0, inbox.Client{})
		return err
	})
	want("next", 1, func() error { _, err := s.Next(t.Context(), bob, 0); return err })
	if err := send(); err != nil {
		t.Fatal(err)
	}
	want("open next with an acknowledgement", 1, func() (err error) {
		_, m, err = s.OpenNext(t.Context(), "bob", bobsKey, m.ID, inbox.Client{})
		return err
	})
	want("discard", 1, func() error { return s.Discard(t.Context(), bob, m.ID) })
	want("wait that times out", 2, func() error {
		_, err := inbox.WaitNext(t.Context(), s, bob, 0, 200*time.Millisecond)
		time.Sleep(200 * time.Millisecond) // the end of the watch is not waited for
		if !errors.Is(err, inbox.ErrEmpty) {
			return fmt.Errorf("got %w, want ErrEmpty", err)
		}
		return nil
	})
	want("open of a new name", 1, func() error { _, err := s.Open(t.Context(), "carol", bobsKey, &inbox.Payer{}); return err })
}

// With encryption, a message to a claim that the node does not know takes one round trip
// more, once.
func TestRoundTripsToAnUnknownClaim(t *testing.T) {
	t.Parallel()
	redis := cluster{startServer(t)}
	a, b := newStore(t, redis.url(), Config{Key: sharedKey}), newStore(t, redis.url(), Config{Key: sharedKey})
	open(t, b, "bob")
	for _, want := range []int{2, 1, 1} {
		a.usage.mu.Lock() // as countRoundTrips does for b
		n := countRoundTrips(t, b, redis, func() { put(t, a, "bob", "hello") })
		a.usage.mu.Unlock()
		if n != want {
			t.Errorf("got %d round trips, want %d", n, want)
		}
	}
}
