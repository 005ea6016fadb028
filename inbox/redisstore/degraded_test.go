//go:build linux

package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"inbox/inbox"
)

// While a part is degraded, one step at a time probes for recovery. Other parts are
// independent of it.
func TestDegradedParts(t *testing.T) {
	f := degradedParts{parts: map[int]bool{}}
	healthy, first := f.begin(1), f.begin(1)
	if !f.end(first, true, false) || f.end(f.begin(2), false, false) {
		t.Error("want a change reported for the first degraded part only")
	}
	probe, brief := f.begin(1), f.begin(1)
	if probe.timeout != replicaTimeout || brief.timeout != degradedReplicaTimeout {
		t.Errorf("got waits of %v and %v, want one long probe and one brief wait", probe.timeout, brief.timeout)
	}
	if w := f.begin(2); w.timeout != replicaTimeout || f.end(w, true, true) || f.parts[2] {
		t.Errorf("got %+v and %v, want the other part not degraded after a canceled step", w, f.parts)
	}
	if f.begin(1).timeout != degradedReplicaTimeout {
		t.Error("got a second probe, want one at a time")
	}
	if !f.end(healthy, false, false) || f.end(brief, true, false) || f.end(probe, true, true) || f.begin(1).timeout != replicaTimeout {
		t.Error("want recovery, regardless of failed waits that began during the shortage")
	}
	f.end(first, true, false)
	if !f.begin(1).isProbe {
		t.Error("got no probe, want one in the next shortage")
	}
}

// A replica whose delay exceeds the brief wait is counted again after a shortage.
func TestSlowReplicaRecovers(t *testing.T) {
	t.Parallel()
	master := startServer(t, "--repl-diskless-sync-delay", "0")
	host, port, _ := net.SplitHostPort(delayedProxy(t, master, degradedReplicaTimeout))
	replica := startServer(t, "--replicaof", host, port)
	replica.until("follows", func() bool { return replicaOnline.MatchString(master.try("INFO", "replication")) })
	s := newStore(t, "redis://"+master.addr(), Config{Replicas: 1})
	open(t, s, "bob")
	if n := replicasFound(t, "redis://"+master.addr()); n != 1 {
		t.Errorf("got %d replicas found, want 1", n)
	}
	replica.signal(syscall.SIGSTOP)
	if _, err := s.Put(t.Context(), "bob", inbox.Message{}, 0); err != errUnreplicated {
		t.Fatalf("got %v, want errUnreplicated", err)
	}
	replica.signal(syscall.SIGCONT)
	eventually(t, "the replica acknowledges in time again", func() bool { return tryPut(t, s, "bob", inbox.Message{}) == nil })
}

// delayedProxy returns the address of a proxy to s that delays each direction.
func delayedProxy(t *testing.T, s *server, delay time.Duration) (addr string) {
	t.Helper()
	return proxyTo(t, s, func(to, from net.Conn) {
		type piece struct {
			due  time.Time
			text []byte
		}
		pieces := make(chan piece, 1000)
		go func() {
			defer to.Close()
			for p := range pieces {
				time.Sleep(time.Until(p.due))
				if _, err := to.Write(p.text); err != nil {
					from.Close()
				}
			}
		}()
		defer close(pieces)
		for {
			b := make([]byte, 4096)
			n, err := from.Read(b)
			if err != nil {
				return
			}
			pieces <- piece{time.Now().Add(delay), b[:n]}
		}
	})
}

// A degraded part of a cluster is logged once, even while other parts are not degraded.
func TestDegradedPartIsLoggedOnce(t *testing.T) {
	t.Parallel()
	redis := startCluster(t, 1)
	var log logBuffer
	s := newStore(t, redis.url(), Config{Replicas: 1, Logger: log.logger()})
	redis[len(redis)-1].signal(syscall.SIGSTOP) // the last are replicas
	failed := 0
	for i := range 40 {
		if _, err := s.Open(t.Context(), fmt.Sprint("peer", i), bobsKey, &inbox.Payer{}); err != nil {
			failed++
		}
	}
	if said := log.String(); failed == 0 || failed == 40 || strings.Count(said, "too few replicas") != 1 ||
		strings.Contains(said, "enough replicas acknowledge") {
		t.Errorf("got %d of 40 calls failed and log %q, want some, and one line", failed, said)
	}
}

// A poll that saw an unreplicated message must not supersede a later poll at another
// node when it registers again.
func TestUnreplicatedPollIsSuperseded(t *testing.T) {
	t.Parallel()
	master := startServer(t, "--repl-diskless-sync-delay", "0")
	replica := startReplica(t, master)
	a, b := newStore(t, "redis://"+master.addr(), Config{Replicas: 1}), newStore(t, "redis://"+master.addr(), Config{Replicas: 1})
	bob := open(t, a, "bob")
	older := startNext(t, a, bob, 20*time.Second)
	replica.signal(syscall.SIGSTOP)
	_, _ = a.Put(t.Context(), "bob", inbox.Message{From: "alice", Body: []byte("hello")}, 0)
	time.Sleep(replicaTimeout) // the older poll sees the message
	replica.signal(syscall.SIGCONT)
	var m inbox.Message
	eventually(t, "the other node returns the message", func() (ok bool) {
		var err error
		m, err = b.Next(t.Context(), bob, 0)
		return err == nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	newer := make(chan error, 1)
	go func() {
		_, err := inbox.WaitNext(ctx, b, bob, m.ID, time.Minute)
		newer <- err
	}()
	select {
	case res := <-older:
		if res.err != nil && !errors.Is(res.err, inbox.ErrSuperseded) {
			t.Errorf("the older poll: got %v, want the message or ErrSuperseded", res.err)
		}
		time.Sleep(2 * time.Second) // beyond the next try of the older poll
	case err := <-newer:
		t.Fatalf("the newer poll: got %v, want it to wait", err)
	}
	put(t, a, "bob", "for the newer")
	if err := <-newer; err != nil {
		t.Errorf("the newer poll: got %v, want a message", err)
	}
}

// A poll that cannot read a message because all replica slots are in use peeks again.
func TestCrowdedPollPeeksAgain(t *testing.T) {
	t.Parallel()
	master := startServer(t, "--repl-diskless-sync-delay", "0")
	startReplica(t, master)
	s, other := newStore(t, "redis://"+master.addr(), Config{Replicas: 1}), newStore(t, "redis://"+master.addr(), Config{Replicas: 1})
	waiting := startNext(t, s, open(t, s, "bob"), 30*time.Second)
	for range maxReplicaWaits {
		s.replicaSlots <- struct{}{}
	}
	put(t, other, "bob", "hello")
	time.Sleep(2 * slotTimeout)
	for range maxReplicaWaits {
		<-s.replicaSlots
	}
	if res := <-waiting; res.err != nil || string(res.Body) != "hello" || res.took > 15*time.Second {
		t.Errorf("got %q, %v after %v, want the message soon", res.Body, res.err, res.took)
	}
}

// The client cleans up a pipelined connection before it reuses it. Calls do not wait
// for that.
func TestHungConnectionCleanupIsNotAwaited(t *testing.T) {
	t.Parallel()
	master := startServer(t, "--repl-diskless-sync-delay", "0")
	startReplica(t, master)
	s := newStore(t, "redis://"+master.addr(), Config{Replicas: 1})
	open(t, s, "bob")
	c, release := s.session.Load().Dedicate()
	endless, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := c.Do(endless, c.B().Ping().Build()).Error(); err != nil { // a call without a deadline starts the pipeline
		t.Fatal(err)
	}
	release()
	master.signal(syscall.SIGSTOP)
	defer master.signal(syscall.SIGCONT)
	began := time.Now()
	_, err := s.Put(t.Context(), "bob", inbox.Message{From: "alice"}, 0)
	if took := time.Since(began); !errors.Is(err, inbox.ErrStoreUnavailable) || took > 2*time.Second {
		t.Errorf("got %v after %v, want ErrStoreUnavailable within two seconds", err, took)
	}
}
