package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"inbox/inbox"
)

// sendersShareAnInbox has thirty concurrent senders: no message is lost or duplicated,
// and the messages of each sender keep their order.
func sendersShareAnInbox(r *rig) {
	bob := r.open("bob")
	concurrently(30, func(i int) {
		for n := range 10 {
			m := inbox.Message{From: name(i), Body: fmt.Append(nil, n)}
			if err := r.tryPut("bob", m); err != nil {
				r.Errorf("put: %v", err)
			}
		}
	})
	seen := map[string]int{}
	for range 300 {
		m := r.next(bob, 0)
		if want := fmt.Sprint(seen[m.From]); string(m.Body) != want {
			r.Fatalf("got message %q of %s, want %s", m.Body, m.From, want)
		}
		seen[m.From]++
		r.want(r.store.Discard(r.Context(), bob, m.ID), nil, "discard")
	}
	r.wantEmpty(bob)
}

// receiversShareMessages has thirty concurrent receivers, which together receive every
// message.
func receiversShareMessages(r *rig) {
	bob := r.open("bob")
	var mu sync.Mutex
	seen := map[string]bool{}
	go func() {
		for i := range 30 {
			if err := r.tryPut("bob", text(fmt.Sprint(i))); err != nil {
				r.Errorf("put: %v", err)
			}
		}
	}()
	concurrently(30, func(int) {
		var ack uint64
		for {
			m, err := inbox.WaitNext(r.Context(), r.store, bob, ack, 12*r.tick)
			if errors.Is(err, inbox.ErrEmpty) {
				return
			} else if err != nil {
				r.Errorf("next: %v", err)
				return
			}
			mu.Lock()
			seen[string(m.Body)] = true
			mu.Unlock()
			ack = m.ID
			if err := r.store.Discard(r.Context(), bob, ack); err != nil {
				r.Errorf("discard: %v", err)
			}
		}
	})
	if len(seen) != 30 {
		r.Fatalf("got %d different messages, want 30", len(seen))
	}
}

// manyAtOnce calls all methods concurrently on a few names. It passes if the race
// detector is silent, all calls return, and the store is usable afterwards.
func manyAtOnce(r *rig) {
	ctx, cancel := context.WithTimeout(r.Context(), 15*r.tick)
	defer cancel()
	concurrently(20, func(i int) {
		for n := range 30 {
			k := (i + n) % 7
			c, err := r.store.Open(ctx, name(k), key(name(k)), &inbox.Payer{Client: name(i), Network: "all"})
			if err != nil {
				continue
			}
			_, _ = r.store.Put(ctx, name((k+n)%9), text("hello"), time.Duration(n%2)*r.tick/10)
			m, _ := inbox.WaitNext(ctx, r.store, c, 0, time.Duration(n%3)*r.tick/10)
			_ = r.store.Discard(ctx, c, m.ID)
			if n%10 == 9 {
				_ = r.store.Close(ctx, c)
			}
		}
	})
	for i := range 7 {
		c := r.open(name(i))
		r.want(r.store.Close(r.Context(), c), nil, "close")
	}
	bob := r.open("bob")
	r.put("bob", "hello")
	r.wantBody(r.next(bob, 0), "hello")
}
