package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"inbox/inbox"
)

// rig is a test with its store.
type rig struct {
	*testing.T
	tick  time.Duration
	store inbox.Store
	join  func(*testing.T, inbox.Store) inbox.Store
}

// unlimitedPayer is a payer without budgets.
var unlimitedPayer = &inbox.Payer{}

func key(s string) (k inbox.Key) {
	copy(k[:], s)
	return k
}

func text(s string) inbox.Message { return inbox.Message{From: "sender", Body: []byte(s)} }

// open claims the name with a key derived from it.
func (r *rig) open(name string) inbox.Claim {
	r.Helper()
	c, err := r.store.Open(r.Context(), name, key(name), unlimitedPayer)
	if err != nil {
		r.Fatalf("open %q: got %v, want a claim", name, err)
	}
	return c
}

func (r *rig) put(to, body string) {
	r.Helper()
	r.want(r.tryPut(to, text(body)), nil, "put")
}

func (r *rig) tryPut(to string, m inbox.Message) error {
	_, err := r.store.Put(r.Context(), to, m, 0)
	return err
}

// next returns the oldest message above after, which must be there.
func (r *rig) next(c inbox.Claim, after uint64) inbox.Message {
	r.Helper()
	m, err := r.store.Next(r.Context(), c, after)
	if err != nil {
		r.Fatalf("next: got %v, want a message", err)
	}
	return m
}

// receive returns the body of the next message and discards it.
func (r *rig) receive(c inbox.Claim) string {
	r.Helper()
	m := r.next(c, 0)
	r.want(r.store.Discard(r.Context(), c, m.ID), nil, "discard")
	return string(m.Body)
}

// wantEmpty checks that the mailbox is empty.
func (r *rig) wantEmpty(c inbox.Claim) {
	r.Helper()
	m, err := r.store.Next(r.Context(), c, 0)
	if !errors.Is(err, inbox.ErrEmpty) {
		r.Fatalf("next: got %q, %v, want ErrEmpty", m.Body, err)
	}
}

func (r *rig) want(err, want error, doing string) {
	r.Helper()
	if !errors.Is(err, want) {
		r.Fatalf("%s: got %v, want %v", doing, err, want)
	}
}

func (r *rig) wantClaim(c, want inbox.Claim) {
	r.Helper()
	if c != want {
		r.Fatalf("got claim %+v, want %+v", c, want)
	}
}

func (r *rig) wantBody(m inbox.Message, want string) {
	r.Helper()
	if string(m.Body) != want {
		r.Fatalf("got message %q, want %q", m.Body, want)
	}
}

// result is the outcome of a call in the background, and its duration.
type result struct {
	inbox.Message
	err  error
	took time.Duration
}

// start runs f in the background, gives it a tick to begin, and returns a channel that
// receives the result.
func (r *rig) start(f func() (inbox.Message, error)) <-chan result {
	done := make(chan result, 1)
	began := time.Now()
	go func() {
		m, err := f()
		done <- result{m, err, time.Since(began)}
	}()
	time.Sleep(r.tick)
	return done
}

func (r *rig) startWaitNext(ctx context.Context, c inbox.Claim, wait time.Duration) <-chan result {
	return r.start(func() (inbox.Message, error) { return inbox.WaitNext(ctx, r.store, c, 0, wait) })
}

func (r *rig) startPut(ctx context.Context, to, body string, wait time.Duration) <-chan result {
	return r.start(func() (inbox.Message, error) {
		id, err := r.store.Put(ctx, to, text(body), wait)
		return inbox.Message{ID: id}, err
	})
}

// wantDuration checks that took is at least want and at most eight ticks longer.
func (r *rig) wantDuration(took, want time.Duration) {
	r.Helper()
	if took < want || took > want+8*r.tick {
		r.Fatalf("took %v, want %v", took, want)
	}
}

// concurrently runs f n times in parallel and waits for all calls.
func concurrently(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

func name(i int) string { return fmt.Sprintf("peer-%d", i) }
