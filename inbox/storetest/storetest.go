// Package storetest tests the contract of inbox.Store. Every engine must pass it. The
// tests assume nothing about the implementation. They sleep in multiples of
// [Engine].Tick, which takes no time inside a synctest bubble.
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

// Engine describes the engine under test to [Run].
type Engine struct {
	// New returns an empty store with these limits and registers its cleanup.
	New func(t *testing.T, limits inbox.Limits) inbox.Store
	// Join returns the store of another process that shares the mailboxes of s, and
	// registers its cleanup. Nil if the engine does not share mailboxes.
	Join func(t *testing.T, s inbox.Store) inbox.Store
	// Bubble runs a test in the time of the engine: synctest.Test for an in-process
	// engine, a plain call for a remote one. Nil is a plain call.
	Bubble func(t *testing.T, test func(*testing.T))
	// Parallel allows tests to run in parallel. The stores that New returns must then
	// be independent.
	Parallel bool
	// Tick is the time unit of the tests: the time resolution of the engine, with
	// tolerance for a busy machine.
	Tick time.Duration
}

// Run runs every test of the contract as a subtest.
func Run(t *testing.T, e Engine) {
	if e.Bubble == nil {
		e.Bubble = func(t *testing.T, test func(*testing.T)) { test(t) }
	}
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) {
			if e.Parallel {
				t.Parallel()
			}
			e.Bubble(t, func(t *testing.T) {
				limits := c.limits
				if limits.Timeout == shortTimeout {
					limits.Timeout = 20 * e.Tick
				} else {
					limits.Timeout = time.Hour // no expiry, even on a busy machine
				}
				c.test(&rig{T: t, tick: e.Tick, store: e.New(t, limits), join: e.Join})
			})
		})
	}
}

// shortTimeout stands for a timeout of twenty ticks, for mailboxes that expire during
// the test.
const shortTimeout = -1

var contract = []struct {
	name   string
	limits inbox.Limits
	test   func(*rig)
}{
	{"KeyIsChecked", inbox.Limits{}, keyIsChecked},
	{"ClaimIsOneOfItsName", inbox.Limits{}, claimIsOneOfItsName},
	{"OpenWithoutPayerClaimsNothing", inbox.Limits{}, openWithoutPayerClaimsNothing},
	{"Order", inbox.Limits{}, order},
	{"NextDoesNotRemove", inbox.Limits{}, nextDoesNotRemove},
	{"NextReadsAboveAnID", inbox.Limits{}, nextReadsAboveAnID},
	{"UnknownIDReadsFromTheOldest", inbox.Limits{}, unknownIDReadsFromTheOldest},
	{"DiscardRemoves", inbox.Limits{}, discardRemoves},
	{"MessageIsWhole", inbox.Limits{}, messageIsWhole},
	{"PutReturnsTheID", inbox.Limits{}, putReturnsTheID},
	{"OpenPut", inbox.Limits{MaxQueuedBytesPerPayer: 4000}, openPut},
	{"OpenNext", inbox.Limits{}, openNext},
	{"EmptyAtOnce", inbox.Limits{}, emptyAtOnce},
	{"WaitNextWaits", inbox.Limits{}, waitNextWaits},
	{"WaitNextTimesOut", inbox.Limits{}, waitNextTimesOut},
	{"CancelledWaitLosesNothing", inbox.Limits{}, cancelledWaitLosesNothing},
	{"NoInbox", inbox.Limits{}, noInbox},
	{"PutWaitsForClaim", inbox.Limits{}, putWaitsForClaim},
	{"PutWaitTimesOut", inbox.Limits{}, putWaitTimesOut},
	{"CancelledPutStoresNothing", inbox.Limits{}, cancelledPutStoresNothing},
	{"CloseEndsTheClaim", inbox.Limits{}, closeEndsTheClaim},
	{"CloseEndsAWait", inbox.Limits{}, closeEndsAWait},
	{"SuccessorIsNotRead", inbox.Limits{}, successorIsNotRead},
	{"IDsAreNeverReused", inbox.Limits{}, idsAreNeverReused},
	{"IDsFollowTheClock", inbox.Limits{}, idsFollowTheClock},
	{"Expires", inbox.Limits{Timeout: shortTimeout}, expires},
	{"OpenKeepsAlive", inbox.Limits{Timeout: shortTimeout}, openKeepsAlive},
	{"EndOfAWaitKeepsAlive", inbox.Limits{Timeout: shortTimeout}, endOfAWaitKeepsAlive},
	{"CancelledWaitKeepsAlive", inbox.Limits{Timeout: shortTimeout}, cancelledWaitKeepsAlive},
	{"WaitOutlivesTheTimeout", inbox.Limits{Timeout: shortTimeout}, waitOutlivesTheTimeout},
	{"WatchTellsOfMessages", inbox.Limits{}, watchTellsOfMessages},
	{"WatchTellsOfAnOldMessage", inbox.Limits{}, watchTellsOfAnOldMessage},
	{"WatchEndsWithTheClaim", inbox.Limits{}, watchEndsWithTheClaim},
	{"WatchOfAnEndedClaim", inbox.Limits{}, watchOfAnEndedClaim},
	{"WatchesOfOneProcess", inbox.Limits{}, watchesOfOneProcess},
	{"StoppedWatchIsSilent", inbox.Limits{}, stoppedWatchIsSilent},
	{"WatchKeepsAlive", inbox.Limits{Timeout: shortTimeout, MaxInboxes: 2}, watchKeepsAlive},
	{"LaterWatchSupersedes", inbox.Limits{Timeout: shortTimeout}, laterWatchSupersedes},
	{"InboxFull", inbox.Limits{Capacity: 2}, inboxFull},
	{"TooManyInboxes", inbox.Limits{Timeout: shortTimeout, MaxInboxes: 2}, tooManyInboxes},
	{"StoreFull", inbox.Limits{Timeout: shortTimeout, MaxQueuedBytes: 4000}, storeFull},
	{"RefusedPutCostsNothing", inbox.Limits{MaxQueuedBytes: 4000, MaxQueuedBytesPerPayer: 2500}, refusedPutCostsNothing},
	{"PendingPutsAreCounted", inbox.Limits{MaxQueuedBytes: 4000}, pendingPutsAreCounted},
	{"PayerFull", inbox.Limits{MaxQueuedBytesPerPayer: 4000}, payerFull},
	{"NetworkHasSixteenBudgets", inbox.Limits{MaxQueuedBytesPerPayer: 4000, MaxInboxesPerPayer: 1}, networkHasSixteenBudgets},
	{"FullPayersLeaveCapacity", inbox.Limits{MaxQueuedBytes: 256 << 20, MaxQueuedBytesPerPayer: 32 << 20}, fullPayersLeaveCapacity},
	{"FullPayersLeaveCapacityInLess", inbox.Limits{MaxQueuedBytes: 128 << 20, MaxQueuedBytesPerPayer: 32 << 20}, fullPayersLeaveCapacity},
	{"FullPayersLeaveNames", inbox.Limits{MaxInboxes: 1000, MaxInboxesPerPayer: 100}, fullPayersLeaveNames},
	{"ExpiredInboxIsReplaced", inbox.Limits{Timeout: shortTimeout, MaxInboxes: 1, MaxInboxesPerPayer: 1}, expiredInboxIsReplaced},
	{"PayerHasTooManyInboxes", inbox.Limits{Timeout: shortTimeout, MaxInboxesPerPayer: 2}, payerHasTooManyInboxes},
	{"SendersShareAnInbox", inbox.Limits{}, sendersShareAnInbox},
	{"ReceiversShareMessages", inbox.Limits{}, receiversShareMessages},
	{"ManyAtOnce", inbox.Limits{Capacity: 10, MaxInboxes: 30}, manyAtOnce},
}

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
