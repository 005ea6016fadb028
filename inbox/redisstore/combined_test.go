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

var _ inbox.CombinedStore = (*Store)(nil)

func TestCombinedSteps(t *testing.T) {
	t.Parallel()
	onBothTopologies(t, func(t *testing.T, url string) {
		s := newStore(t, url, Config{Limits: inbox.Limits{Timeout: 60e9, MaxQueuedBytesPerPayer: 4000}})
		hello := inbox.Message{From: "alice", Body: []byte("hello")}
		openPut := func(name string, key inbox.Key, to string) (inbox.Claim, error) {
			return s.OpenPut(t.Context(), name, key, to, hello)
		}
		openNext := func(name string, key inbox.Key, ack uint64) (inbox.Claim, inbox.Message, error) {
			return s.OpenNext(t.Context(), name, key, ack)
		}
		if c, err := openPut("alice", bobsKey, "bob"); !errors.Is(err, inbox.ErrNoInbox) || c.Name != "" {
			t.Fatalf("open put from an unclaimed name: got %+v, %v, want no claim and ErrNoInbox", c, err)
		}
		alice, bob := open(t, s, "alice"), open(t, s, "bob")
		if c, err := openPut("alice", inbox.Key{9}, "bob"); !errors.Is(err, inbox.ErrWrongKey) || c.Name != "" {
			t.Fatalf("open put with a wrong key: got %+v, %v, want no claim and ErrWrongKey", c, err)
		}
		if c, err := openPut("alice", bobsKey, "carol"); !errors.Is(err, inbox.ErrNoInbox) || c != (inbox.Claim{Name: "alice", Epoch: alice.Epoch}) {
			t.Fatalf("open put to an unclaimed name: got %+v, %v, want alice's claim and ErrNoInbox", c, err)
		}
		if _, _, err := openNext("bob", bobsKey, 0); !errors.Is(err, inbox.ErrEmpty) {
			t.Fatalf("next: got %v, want ErrEmpty", err)
		}
		if _, err := openPut("alice", bobsKey, "bob"); err != nil {
			t.Fatal(err)
		}
		c, m, err := openNext("bob", bobsKey, 0)
		if err != nil || string(m.Body) != "hello" || m.From != "alice" || c.Epoch != bob.Epoch {
			t.Fatalf("next: got %+v of %+v, %v", m, c, err)
		}
		if _, _, err := openNext("bob", inbox.Key{9}, m.ID); !errors.Is(err, inbox.ErrWrongKey) {
			t.Fatalf("next with a wrong key: got %v, want ErrWrongKey", err)
		}
		wantNext(t, s, bob, 0, "hello") // a wrong key acknowledges nothing
		if _, _, err := openNext("bob", bobsKey, m.ID); !errors.Is(err, inbox.ErrEmpty) {
			t.Fatalf("next after the last: got %v, want ErrEmpty", err)
		}
		hello.Body, hello.Payer = make([]byte, 3000), inbox.Payer{Client: "one"}
		if _, err := openPut("alice", bobsKey, "bob"); err != nil {
			t.Fatal(err)
		}
		if c, err := openPut("alice", bobsKey, "bob"); !errors.Is(err, inbox.ErrPayerFull) || c.Name != "alice" {
			t.Fatalf("open put over quota: got %+v, %v, want alice's claim and ErrPayerFull", c, err)
		}
		if _, err := openPut("alice", inbox.Key{9}, "bob"); !errors.Is(err, inbox.ErrWrongKey) {
			t.Fatalf("open put over quota with a wrong key: got %v, want ErrWrongKey", err)
		}
	})
}

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
		testRoundTrips(t, cluster{startServer(t)}, 1)
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		testRoundTrips(t, startCluster(t, 0), 2)
	})
}

func testRoundTrips(t *testing.T, redis cluster, post int) {
	s := newStore(t, redis.url(), Config{})
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
		_, err := s.OpenPut(t.Context(), "alice", bobsKey, "bob", inbox.Message{From: "alice"})
		return err
	}
	want("open put", post, send)
	want("open next with a message", 1, func() (err error) {
		_, m, err = s.OpenNext(t.Context(), "bob", bobsKey, 0)
		return err
	})
	want("next", 1, func() error { _, err := s.Next(t.Context(), bob, 0, 0); return err })
	if err := send(); err != nil {
		t.Fatal(err)
	}
	want("open next with an acknowledgement", 1, func() (err error) {
		_, m, err = s.OpenNext(t.Context(), "bob", bobsKey, m.ID)
		return err
	})
	want("discard", 1, func() error { return s.Discard(t.Context(), bob, m.ID) })
	want("next that times out", 2, func() error {
		if _, err := s.Next(t.Context(), bob, 0, 200*time.Millisecond); !errors.Is(err, inbox.ErrEmpty) {
			return fmt.Errorf("got %w, want ErrEmpty", err)
		}
		return nil
	})
	want("open of a new name", 1, func() error { _, err := s.Open(t.Context(), "carol", bobsKey, &inbox.Payer{}); return err })
}
