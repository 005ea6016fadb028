//go:build linux

package redisstore

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"inbox/inbox"
)

var replicaOnline = regexp.MustCompile(`slave0:.*state=online,offset=[1-9]`)

// startReplica starts a replica and waits until master reports it online.
func startReplica(t testing.TB, master *server) *server {
	t.Helper()
	r := startServer(t, "--replicaof", "127.0.0.1", fmt.Sprint(master.port))
	r.until("follows", func() bool { return replicaOnline.MatchString(master.try("INFO", "replication")) })
	return r
}

// Changes are not acknowledged, and messages not returned, before replicas have them.
func TestStepsWaitForReplicas(t *testing.T) {
	t.Parallel()
	master := startServer(t, "--repl-diskless-sync-delay", "0")
	replica := startReplica(t, master)
	var log logBuffer
	var unreplicated atomic.Int64
	master.user("inbox", append(minimalACL, "+wait")...)
	url := "redis://inbox:secret-word@" + master.addr()
	s := newStore(t, url, Config{Replicas: 1, Logger: log.logger(), Observe: func(o Outcome, _ time.Duration) {
		if o == Unreplicated {
			unreplicated.Add(1)
		}
	}})
	bob := open(t, s, "bob")
	alice := open(t, s, "alice")
	put(t, s, "bob", "hello")
	m := wantNext(t, s, bob, 0, "hello")
	if n := replicasFound(t, url); n != 1 {
		t.Errorf("got %d replicas found, want 1", n)
	}
	replica.signal(syscall.SIGSTOP)
	wantTooFew := func(what string, f func() error) {
		t.Helper()
		began := time.Now()
		if err := f(); !errors.Is(err, errUnreplicated) || !errors.Is(err, inbox.ErrStoreUnavailable) || time.Since(began) > 2*time.Second {
			t.Errorf("%s: got %v after %v, want too few replicas within two seconds", what, err, time.Since(began))
		}
	}
	wantTooFew("put", func() error { return tryPut(t, s, "bob", inbox.Message{From: "alice", Body: []byte("again")}) })
	wantTooFew("open put", func() error {
		_, _, err := s.OpenPut(t.Context(), "alice", bobsKey, "bob", inbox.Message{From: "alice"})
		return err
	})
	wantTooFew("next", func() error { _, err := s.Next(t.Context(), bob, 0); return err })
	wantTooFew("open next", func() error { _, _, err := s.OpenNext(t.Context(), "bob", bobsKey, 0, inbox.Client{}); return err })
	if err := s.Discard(t.Context(), bob, m.ID); err != nil {
		t.Errorf("discard: got %v, want success without replicas", err)
	}
	if _, err := s.Put(t.Context(), "nobody", inbox.Message{}, 0); !errors.Is(err, inbox.ErrNoInbox) {
		t.Errorf("put that changes nothing: got %v, want ErrNoInbox", err)
	}
	if s.Ready() != nil || unreplicated.Load() != 4 {
		t.Errorf("got Ready %v and %d outcomes Unreplicated, want nil and 4", s.Ready(), unreplicated.Load())
	}
	waiting := startNext(t, s, alice, 20*time.Second)
	_, _ = s.Put(t.Context(), "alice", inbox.Message{From: "bob", Body: []byte("late")}, 0)
	replica.signal(syscall.SIGCONT)
	if res := <-waiting; res.err != nil || string(res.Body) != "late" || res.took > 8*time.Second {
		t.Errorf("waiting poll: got %q, %v after %v, want the message within eight seconds", res.Body, res.err, res.took)
	}
	wantNext(t, s, bob, m.ID, "again")
	if said := log.String(); strings.Count(said, "too few replicas") != 1 || strings.Count(said, "enough replicas acknowledge") != 1 {
		t.Errorf("got log %q, want one line at the beginning of the shortage and one at its end", said)
	}
}

// replicasFound returns the number of replicas that Examine finds for a store with one
// master.
func replicasFound(t *testing.T, url string) int {
	t.Helper()
	a, err := ParseAddress(url)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Examine(t.Context(), Config{Address: a, Replicas: 2})
	if err != nil || len(r.Servers) != 1 || r.Replicas != 2 {
		t.Fatalf("got %+v, %v", r, err)
	}
	return r.Servers[0].Replicas
}

// With replicas required, calls to a hung store fail within two seconds, even when many
// arrive at once.
func TestHungStoreWithReplicas(t *testing.T) {
	t.Parallel()
	master := startServer(t, "--repl-diskless-sync-delay", "0")
	startReplica(t, master)
	s := newStore(t, "redis://"+master.addr(), Config{Replicas: 1})
	bob := open(t, s, "bob")
	master.signal(syscall.SIGSTOP)
	var all sync.WaitGroup
	for range maxReplicaWaits + 32 {
		all.Go(func() {
			began := time.Now()
			_, err := s.Put(t.Context(), "bob", inbox.Message{From: "alice"}, 0)
			if took := time.Since(began); !errors.Is(err, inbox.ErrStoreUnavailable) || took > 2*time.Second {
				t.Errorf("got %v after %v, want ErrStoreUnavailable within two seconds", err, took)
			}
		})
	}
	all.Wait()
	wantUnavailable(t, s, bob)
	master.signal(syscall.SIGCONT)
	eventually(t, "the store accepts messages again", func() bool {
		return tryPut(t, s, "bob", inbox.Message{From: "alice"}) == nil
	})
}

// Each master of a cluster has its own replicas. Scripts that it lost are loaded again.
func TestReplicasOfACluster(t *testing.T) {
	t.Parallel()
	redis := startCluster(t, 1)
	s := newStore(t, redis.url(), Config{Replicas: 1})
	two := newStore(t, redis.url(), Config{Replicas: 2}) // more than exist
	for i := range 30 {
		name := fmt.Sprint("peer", i)
		c := open(t, s, name)
		for _, srv := range redis {
			srv.do("SCRIPT", "FLUSH")
		}
		put(t, s, name, "hello")
		wantNext(t, s, c, 0, "hello")
		eventually(t, "two replicas are too few", func() bool {
			_, err := two.Put(t.Context(), name, inbox.Message{From: "alice"}, 0)
			if err == nil {
				t.Errorf("%s: got no error with two replicas required, want errUnreplicated", name)
			}
			return err == nil || errors.Is(err, errUnreplicated)
		})
	}
}

// A master dies while messages arrive and its replica takes over: acknowledged messages
// are kept.
func TestFailoverLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	master := startServer(t, "--repl-diskless-sync-delay", "0")
	replica := startReplica(t, master)
	s := newStore(t, "redis-sentinel://"+startSentinel(t, master)+"/mymaster", Config{Replicas: 1, Limits: inbox.Limits{Timeout: time.Minute, Capacity: maxCapacity}})
	bob := open(t, s, "bob")
	process := master.cmd.Process
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	var senders sync.WaitGroup
	for i := range 8 {
		senders.Go(func() {
			for n := 0; ; n++ {
				text := fmt.Sprint(i, "-", n)
				if tryPut(t, s, "bob", inbox.Message{From: "alice", Body: []byte(text)}) != nil {
					return
				}
				mu.Lock()
				acknowledged[text] = true
				if len(acknowledged) == 200 {
					process.Kill()
				}
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	master.kill()
	sent := len(acknowledged)
	s.Shutdown()
	replica.until("is the master", func() bool { return strings.Contains(replica.try("INFO", "replication"), "role:master") })
	after := newStore(t, "redis://"+replica.addr(), Config{Limits: inbox.Limits{Timeout: time.Minute, Capacity: maxCapacity}})
	for ack := uint64(0); ; {
		m, err := after.Next(t.Context(), bob, ack)
		if errors.Is(err, inbox.ErrEmpty) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		ack = m.ID
		delete(acknowledged, string(m.Body))
	}
	if sent < 200 || len(acknowledged) > 0 {
		t.Errorf("%d of %d messages that were acknowledged are lost", len(acknowledged), sent)
	}
	t.Logf("%d messages acknowledged before the failover", sent)
}

// Shutdown cancels steps that wait at a hung store; later calls fail.
func TestShutdownDuringReplicaWaits(t *testing.T) {
	t.Parallel()
	master := startServer(t, "--repl-diskless-sync-delay", "0")
	startReplica(t, master)
	s := newStore(t, "redis://"+master.addr(), Config{Replicas: 1})
	open(t, s, "bob")
	send := func() error {
		return tryPut(t, s, "bob", inbox.Message{From: "alice", Body: []byte("hello")})
	}
	master.signal(syscall.SIGSTOP)
	var senders sync.WaitGroup
	for range 2 * maxReplicaWaits {
		senders.Go(func() {
			for range 3 {
				if err := send(); !errors.Is(err, inbox.ErrStoreUnavailable) {
					t.Errorf("got %v, want ErrStoreUnavailable", err)
				}
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	s.Shutdown()
	t.Logf("Shutdown took %v", time.Since(began))
	senders.Wait()
	if err := send(); !errors.Is(err, inbox.ErrStoreUnavailable) {
		t.Errorf("after Shutdown: got %v, want ErrStoreUnavailable", err)
	}
	master.signal(syscall.SIGCONT)
}
