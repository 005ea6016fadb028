//go:build linux

package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"inbox/inbox"
)

var bobsKey = inbox.Key{1, 2, 3}

func open(t testing.TB, s inbox.Store, name string) inbox.Claim {
	t.Helper()
	c, err := s.Open(t.Context(), name, bobsKey, &inbox.Payer{})
	if err != nil {
		t.Fatalf("open %q: %v", name, err)
	}
	return c
}

func put(t testing.TB, s inbox.Store, to, body string) {
	t.Helper()
	if _, err := s.Put(t.Context(), to, inbox.Message{From: "alice", Body: []byte(body)}, 0); err != nil {
		t.Fatalf("put to %q: %v", to, err)
	}
}

// tryPut puts without a wait.
func tryPut(t testing.TB, s inbox.Store, to string, m inbox.Message) error {
	_, err := s.Put(t.Context(), to, m, 0)
	return err
}

func wantNext(t testing.TB, s inbox.Store, c inbox.Claim, ack uint64, want string) inbox.Message {
	t.Helper()
	m, err := s.Next(t.Context(), c, ack)
	if err != nil || string(m.Body) != want {
		t.Fatalf("next: got %q, %v, want %q", m.Body, err, want)
	}
	return m
}

type nextResult struct {
	inbox.Message
	err  error
	took time.Duration
}

// startNext starts a Next that waits, and gives it time to register.
func startNext(t testing.TB, s *Store, c inbox.Claim, wait time.Duration) <-chan nextResult {
	done := make(chan nextResult, 1)
	began := time.Now()
	go func() {
		ctx := context.WithoutCancel(t.Context())
		m, err := s.Next(ctx, c, 0)
		if errors.Is(err, inbox.ErrEmpty) {
			m, err = inbox.WaitNext(ctx, s, c, 0, wait)
		}
		done <- nextResult{m, err, time.Since(began)}
	}()
	time.Sleep(300 * time.Millisecond)
	return done
}

// onBothTopologies runs a test on a single Redis and on a cluster.
func onBothTopologies(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("one", func(t *testing.T) {
		t.Parallel()
		test(t, "redis://"+startServer(t).addr())
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		test(t, startCluster(t, 0).url())
	})
}

func TestMessageWakesAnotherNode(t *testing.T) {
	t.Parallel()
	onBothTopologies(t, func(t *testing.T, url string) {
		a, b := newStore(t, url, Config{}), newStore(t, url, Config{})
		for i := range 6 {
			name := fmt.Sprint("bob", i)
			c := open(t, a, name)
			if other := open(t, b, name); other.Epoch != c.Epoch {
				t.Fatalf("got claim %+v at the other node, want %+v", other, c)
			}
			got := startNext(t, a, c, 9*time.Second)
			put(t, b, name, "hello")
			if res := <-got; res.err != nil || string(res.Body) != "hello" || res.took > 3*time.Second {
				t.Fatalf("got %q, %v after %v, want hello within three seconds", res.Body, res.err, res.took)
			}
		}
	})
}

func TestPendingPutAcrossNodes(t *testing.T) {
	t.Parallel()
	onBothTopologies(t, func(t *testing.T, url string) {
		a, b := newStore(t, url, Config{}), newStore(t, url, Config{})
		done := make(chan error, 1)
		began := time.Now()
		go func() {
			_, err := a.Put(t.Context(), "bob", inbox.Message{From: "alice", Body: []byte("hello")}, 9*time.Second)
			done <- err
		}()
		time.Sleep(300 * time.Millisecond)
		c := open(t, b, "bob")
		if err := <-done; err != nil || time.Since(began) > 5*time.Second {
			t.Fatalf("pending put: got %v after %v", err, time.Since(began))
		}
		wantNext(t, b, c, 0, "hello")
	})
}

func TestNewestPollWinsAcrossNodes(t *testing.T) {
	t.Parallel()
	onBothTopologies(t, func(t *testing.T, url string) {
		a, b := newStore(t, url, Config{}), newStore(t, url, Config{})
		c := open(t, a, "bob")
		older := startNext(t, a, c, 9*time.Second)
		newer := startNext(t, b, c, 9*time.Second)
		if res := <-older; !errors.Is(res.err, inbox.ErrSuperseded) || res.took > 5*time.Second {
			t.Fatalf("older poll: got %v after %v, want ErrSuperseded within five seconds", res.err, res.took)
		}
		put(t, a, "bob", "hello")
		if res := <-newer; res.err != nil || string(res.Body) != "hello" {
			t.Fatalf("newer poll: got %q, %v, want hello", res.Body, res.err)
		}
	})
}

// TestOnlyWatchesAreSuperseded checks that a watch of another node supersedes neither a
// waiting Put nor a later watch.
func TestOnlyWatchesAreSuperseded(t *testing.T) {
	var s Store
	s.watches.init()
	ended := map[string]error{}
	add := func(name string, isPut bool) *watch {
		w := &watch{loc: location{tag: "tag"}, isPut: isPut, notify: func(end error) { ended[name] = end }}
		s.watches.add(w, "")
		return w
	}
	add("put", true)
	older := add("older", false)
	add("newer", false)
	s.handleMessage(fmt.Sprintf("s%d tag", older.seq))
	if len(ended) != 1 || ended["older"] != inbox.ErrSuperseded {
		t.Errorf("got %v, want ErrSuperseded of the older watch alone", ended)
	}
}

// When a client polls its first node again, a late message must not supersede the new
// poll in place of the old one.
func TestLateSupersedeKeepsNewerPoll(t *testing.T) {
	t.Parallel()
	url := "redis://" + startServer(t).addr()
	a := newStore(t, url, Config{})
	c := open(t, a, "bob")
	sess := a.session.Load()
	older := startNext(t, a, c, 400*time.Millisecond)
	<-older
	newer := startNext(t, a, c, 9*time.Second)
	a.handleMessage("s1 " + sess.locate("bob").tag) // the older poll has seq 1
	put(t, a, "bob", "hello")
	if res := <-newer; res.err != nil || string(res.Body) != "hello" {
		t.Fatalf("got %q, %v, want hello", res.Body, res.err)
	}
}

// A node that ends between reading and discarding a message loses nothing.
func TestUndiscardedMessageOfDeadNode(t *testing.T) {
	t.Parallel()
	url := "redis://" + startServer(t).addr()
	a, b := newStore(t, url, Config{}), newStore(t, url, Config{})
	c := open(t, a, "bob")
	put(t, b, "bob", "hello")
	wantNext(t, a, c, 0, "hello")
	a.Shutdown()
	m := wantNext(t, b, c, 0, "hello")
	if err := b.Discard(t.Context(), c, m.ID); err != nil {
		t.Fatal(err)
	}
}

func TestIDsIncreaseWhenClockIsSetBack(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	s := newStore(t, "redis://"+redis.addr(), Config{})
	c := open(t, s, "bob")
	bucket := bucketKey(s.session.Load().locate("bob").bucket)
	// As if the server's clock had been an hour ahead so far.
	ahead := uint64(time.Now().Add(time.Hour).UnixMicro())
	redis.do("HSET", bucket+":s", "L", fmt.Sprint(ahead))
	if err := s.Close(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	c = open(t, s, "bob")
	put(t, s, "bob", "hello")
	first := wantNext(t, s, c, 0, "hello").ID
	if first <= ahead {
		t.Fatalf("got ID %d, want it above %d", first, ahead)
	}
	for range 5 { // the highest ID is above the claim's first one
		put(t, s, "bob", "hello")
	}
	if err := s.Close(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	c = open(t, s, "bob")
	put(t, s, "bob", "hello")
	if m := wantNext(t, s, c, 0, "hello"); m.ID <= first+5 {
		t.Fatalf("got ID %d, want it above %d", m.ID, first+5)
	}
}

// Pending puts to names that are never claimed leave no keys in the store.
func TestPendingPutsLeaveNoKeys(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	s := newStore(t, "redis://"+redis.addr(), Config{})
	if _, err := s.Put(t.Context(), "nobody", inbox.Message{From: "alice"}, 300*time.Millisecond); !errors.Is(err, inbox.ErrNoInbox) {
		t.Fatalf("got %v, want %v", err, inbox.ErrNoInbox)
	}
	eventually(t, "the registration is deleted", func() bool { return redis.do("KEYS", "*:k:*") == "" })
}

// Two nodes learn within a second what the other accepted. Together they exceed a quota
// at most by what one accepts in that time.
func TestQuotasHoldAcrossNodes(t *testing.T) {
	t.Parallel()
	onBothTopologies(t, func(t *testing.T, url string) {
		limits := inbox.Limits{Timeout: time.Minute, MaxInboxes: 10, MaxQueuedBytesPerPayer: 40_000}
		a, b := newStore(t, url, Config{Limits: limits}), newStore(t, url, Config{Limits: limits})
		for i := range 10 {
			open(t, a, fmt.Sprint("peer", i))
		}
		eventually(t, "the other node rejects an eleventh mailbox", func() bool {
			_, err := b.Open(t.Context(), "another", bobsKey, &inbox.Payer{})
			if err == nil {
				c := open(t, b, "another")
				b.Close(t.Context(), c)
			}
			return errors.Is(err, inbox.ErrTooManyInboxes)
		})
		m := inbox.Message{From: "alice", Body: make([]byte, 9000), Payer: inbox.Payer{Client: "one"}}
		for range 4 {
			if _, err := a.Put(t.Context(), "peer1", m, 0); err != nil {
				t.Fatal(err)
			}
		}
		accepted := 0
		eventually(t, "the other node rejects the payer", func() bool {
			_, err := b.Put(t.Context(), "peer2", m, 0)
			if err == nil {
				accepted++
			}
			return errors.Is(err, inbox.ErrPayerFull)
		})
		if accepted > 4 {
			t.Fatalf("got %d messages accepted beyond the quota, want at most another node's quota", accepted)
		}
		for _, name := range []string{"peer1", "peer2"} {
			if err := a.Close(t.Context(), open(t, a, name)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the other node sees the freed bytes", func() bool {
			return tryPut(t, b, "peer3", m) == nil
		})
	})
}

func TestSumsAreZeroAfterExpiry(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	limits := inbox.Limits{Timeout: 6 * time.Second}
	a := newStore(t, "redis://"+redis.addr(), Config{Limits: limits})
	payer := inbox.Payer{Client: "one", Network: "net"}
	for i := range 50 {
		name := fmt.Sprint("peer", i)
		if _, err := a.Open(t.Context(), name, bobsKey, &payer); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Put(t.Context(), name, inbox.Message{From: "alice", Body: []byte("hello"), Payer: payer}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := a.Stats(); got.Inboxes != 50 || got.QueuedBytes != 50*(5+5+messageOverhead) {
		t.Fatalf("got %+v, want 50 inboxes with a message each", got)
	}
	eventually(t, "all mailboxes expired", func() bool { return a.Stats() == inbox.Stats{} })
	for _, key := range strings.Fields(redis.do("KEYS", "*")) {
		if strings.Contains(key, ":d:") || strings.Contains(key, ":x") || strings.Contains(key, ":k:") {
			t.Errorf("got key %s left, want only sums", key)
		}
	}
}

// The longest time that one script blocks the store: deletion of the largest possible
// mailbox, paid for by a hundred payers.
func TestFullestMailboxIsDeletedQuickly(t *testing.T) {
	t.Parallel()
	for what, remove := range map[string]func(*Store, inbox.Claim) error{
		"close":   func(s *Store, c inbox.Claim) error { return s.Close(t.Context(), c) },
		"discard": func(s *Store, c inbox.Claim) error { return s.Discard(t.Context(), c, c.Epoch+maxCapacity-1) },
	} {
		redis := cluster{startServer(t)}
		s := newStore(t, redis.url(), Config{Limits: inbox.Limits{Timeout: time.Hour}})
		c := open(t, s, "bob")
		began := time.Now()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				m := inbox.Message{From: "alice", Payer: inbox.Payer{Client: fmt.Sprint(i), Network: fmt.Sprint(i / 10)}}
				for {
					_, err := s.Put(t.Context(), "bob", m, 0)
					if errors.Is(err, inbox.ErrStoreUnavailable) && time.Since(began) < time.Minute {
						continue // busy machine
					}
					if !errors.Is(err, inbox.ErrInboxFull) && err != nil {
						t.Error(err)
					}
					if err != nil {
						return
					}
				}
			})
		}
		all.Wait()
		if _, err := s.Put(t.Context(), "bob", inbox.Message{From: "alice"}, 0); !errors.Is(err, inbox.ErrInboxFull) {
			t.Fatalf("%s: got %v, want ErrInboxFull", what, err)
		}
		before, _ := redis.cpuTime(t) // not wall-clock time, for the same reason
		if err := remove(s, c); err != nil {
			t.Fatal(err)
		}
		after, _ := redis.cpuTime(t)
		t.Logf("%s took %v of CPU time", what, after-before)
		if after-before > 100*time.Millisecond {
			t.Errorf("%s took %v of CPU time, want 100 ms at most", what, after-before)
		}
		if got := s.Stats(); got.QueuedBytes != 0 {
			t.Errorf("%s: got %d bytes left, want none", what, got.QueuedBytes)
		}
	}
}
