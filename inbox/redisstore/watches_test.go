//go:build linux

package redisstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"inbox/inbox"
)

// TestNoWakeUpIsLost has receivers that change nodes after each message, while the next
// one is put at a random moment around the new watch. A lost wake-up would delay a
// message until the watch is renewed.
func TestNoWakeUpIsLost(t *testing.T) {
	t.Parallel()
	onBothTopologies(t, func(t *testing.T, url string) {
		nodes := []*Store{newStore(t, url, Config{}), newStore(t, url, Config{})}
		var receivers sync.WaitGroup
		for i := range 20 {
			name := fmt.Sprint("peer", i)
			c := open(t, nodes[0], name)
			receivers.Go(func() {
				ack := uint64(0)
				for n := range 40 {
					node, sender := nodes[(i+n)%2], nodes[rand.IntN(2)]
					body := fmt.Sprint(n)
					put := time.AfterFunc(rand.N(4*time.Millisecond), func() {
						if err := tryPut(t, sender, name, inbox.Message{From: "alice", Body: []byte(body)}); err != nil {
							t.Errorf("put: %v", err)
						}
					})
					began := time.Now()
					m, err := inbox.WaitNext(t.Context(), node, c, ack, 15*time.Second)
					for errors.Is(err, inbox.ErrSuperseded) { // by the last watch, whose step was on its way when it ended
						m, err = inbox.WaitNext(t.Context(), node, c, ack, 15*time.Second)
					}
					if took := time.Since(began); err != nil || string(m.Body) != body || took > 4*time.Second {
						t.Errorf("%s: got %q, %v after %v, want %s soon", name, m.Body, err, took, body)
						put.Stop()
						return
					}
					ack = m.ID
					if err := node.Discard(t.Context(), c, ack); err != nil {
						t.Errorf("discard: %v", err)
					}
				}
			})
		}
		receivers.Wait()
	})
}

// TestStoppedWatchIsForgotten checks that a node is not notified of messages to a mailbox
// that it no longer watches.
func TestStoppedWatchIsForgotten(t *testing.T) {
	t.Parallel()
	redis := startServer(t)
	s := newStore(t, "redis://"+redis.addr(), Config{})
	bob := open(t, s, "bob")
	place := s.session.Load().locate("bob")
	field := func() string { return redis.do("HGET", bucketKey(place.bucket)+":d:"+place.tag, "w") }
	stop, err := s.Watch(bob, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the watch is registered", func() bool { return field() != "" })
	stop()
	eventually(t, "the watch is removed", func() bool { return field() == "" })
}
