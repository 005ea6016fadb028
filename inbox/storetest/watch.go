package storetest

import (
	"errors"
	"sync"
	"time"

	"inbox/inbox"
)

// watcher records the calls of one watch.
type watcher struct {
	mu       sync.Mutex
	messages int   // calls with nil
	end      error // the last call
	ended    time.Time
	last     time.Time
	stop     func()
}

func (w *watcher) notify(end error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = time.Now()
	if end == nil {
		w.messages++
	} else {
		w.end, w.ended = end, w.last
	}
}

func (w *watcher) state() (messages int, end error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.messages, w.end
}

// watch registers a watch and gives it time to reach the store.
func (r *rig) watch(s inbox.Store, c inbox.Claim) *watcher {
	r.Helper()
	w := &watcher{}
	stop, err := s.Watch(c, w.notify)
	r.want(err, nil, "watch")
	w.stop = stop
	r.Cleanup(stop)
	time.Sleep(r.tick)
	return w
}

// until waits up to ten ticks.
func (r *rig) until(what string, ok func() bool) {
	r.Helper()
	for range 20 {
		if ok() {
			return
		}
		time.Sleep(r.tick / 2)
	}
	r.Fatalf("waited for %s: got none", what)
}

func (r *rig) wantEnd(w *watcher, want error) {
	r.Helper()
	r.until(want.Error(), func() bool { _, end := w.state(); return end != nil })
	if _, end := w.state(); !errors.Is(end, want) {
		r.Fatalf("the watch ended with %v, want %v", end, want)
	}
	time.Sleep(2 * r.tick)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last.After(w.ended.Add(r.tick)) { // a call that was under way is allowed
		r.Fatal("notify was called after the end of the watch")
	}
}

// wantNews checks that notify is called after f.
func (r *rig) wantNews(w *watcher, f func()) {
	r.Helper()
	before, _ := w.state()
	f()
	r.until("a message", func() bool { n, _ := w.state(); return n > before })
}

func watchTellsOfMessages(r *rig) {
	bob := r.open("bob")
	w := r.watch(r.store, bob)
	if n, end := w.state(); n != 0 || end != nil {
		r.Fatalf("got %d calls and %v from an empty mailbox, want none", n, end)
	}
	for range 3 { // whether or not they are read meanwhile
		r.wantNews(w, func() { r.put("bob", "hello") })
	}
	if body := r.receive(bob); body != "hello" {
		r.Fatalf("got %q, want hello", body)
	}
	r.wantNews(w, func() { r.put("bob", "hello") })
	r.open("carol")
	before, _ := w.state()
	r.put("carol", "for another")
	time.Sleep(r.tick)
	if n, _ := w.state(); n != before {
		r.Fatal("got a call for a message to another")
	}
}

func watchTellsOfAnOldMessage(r *rig) {
	bob := r.open("bob")
	r.put("bob", "hello")
	w := r.watch(r.store, bob)
	r.until("a message", func() bool { n, _ := w.state(); return n > 0 })
	res := <-r.startWaitNext(r.Context(), bob, 10*r.tick)
	r.want(res.err, nil, "wait")
	r.wantBody(res.Message, "hello")
}

func watchEndsWithTheClaim(r *rig) {
	bob := r.open("bob")
	first, second := r.watch(r.store, bob), r.watch(r.store, bob)
	r.want(r.store.Close(r.Context(), bob), nil, "close")
	r.wantEnd(first, inbox.ErrClaimEnded)
	r.wantEnd(second, inbox.ErrClaimEnded)
	successor := r.open("bob")
	w := r.watch(r.store, successor)
	r.wantNews(w, func() { r.put("bob", "hello") })
	r.wantEnd(first, inbox.ErrClaimEnded) // and no call since
	first.stop()
	r.wantNews(w, func() { r.put("bob", "hello") })
}

func watchOfAnEndedClaim(r *rig) {
	bob := r.open("bob")
	r.want(r.store.Close(r.Context(), bob), nil, "close")
	for range 2 {
		w := &watcher{}
		stop, err := r.store.Watch(bob, w.notify)
		if err == nil {
			r.wantEnd(w, inbox.ErrClaimEnded)
			stop()
		} else {
			r.want(err, inbox.ErrClaimEnded, "watch")
		}
		r.open("bob") // a successor does not bring it back
	}
}

func watchesOfOneProcess(r *rig) {
	bob := r.open("bob")
	first, second := r.watch(r.store, bob), r.watch(r.store, bob)
	for _, w := range []*watcher{first, second} {
		r.wantNews(w, func() { r.put("bob", "hello") })
	}
	second.stop()
	time.Sleep(r.tick)
	r.wantNews(first, func() { r.put("bob", "hello") })
	if _, end := first.state(); end != nil {
		r.Fatalf("the first watch ended with %v, want it to go on", end)
	}
}

func stoppedWatchIsSilent(r *rig) {
	bob := r.open("bob")
	w := r.watch(r.store, bob)
	w.stop()
	w.stop()
	time.Sleep(r.tick)
	before, _ := w.state()
	r.put("bob", "hello")
	r.want(r.store.Close(r.Context(), bob), nil, "close")
	time.Sleep(r.tick)
	if n, end := w.state(); n != before || end != nil {
		r.Fatalf("got %d calls and %v after stop, want none", n-before, end)
	}
}

// watchKeepsAlive fills the store, so that requests look for expired mailboxes.
func watchKeepsAlive(r *rig) {
	bob := r.open("bob")
	r.open("other")
	w := r.watch(r.store, bob)
	for range 3 {
		time.Sleep(16 * r.tick)
		r.open("other")
		_, err := r.store.Open(r.Context(), "third", key("third"), unlimitedPayer)
		r.want(err, inbox.ErrTooManyInboxes, "open a third")
		r.wantNews(w, func() { r.put("bob", "hello") })
	}
	w.stop()
	time.Sleep(14 * r.tick)
	r.put("bob", "hello")
	time.Sleep(10 * r.tick) // a Put is not a use by the owner
	_, err := r.store.Next(r.Context(), bob, 0)
	r.want(err, inbox.ErrClaimEnded, "next after the timeout")
}

// laterWatchSupersedes has two processes watch one after the other. A watch that was superseded
// does not come back.
func laterWatchSupersedes(r *rig) {
	if r.join == nil {
		r.Skip("the engine is not shared between processes")
	}
	other := r.join(r.T, r.store)
	bob := r.open("bob")
	first := r.watch(r.store, bob)
	second := r.watch(other, bob)
	r.wantEnd(first, inbox.ErrSuperseded)
	r.wantNews(second, func() { r.put("bob", "hello") })
	third := r.watch(r.store, bob)
	r.wantEnd(second, inbox.ErrSuperseded)
	first.stop()
	time.Sleep(30 * r.tick) // beyond the timeout
	r.wantNews(third, func() { r.put("bob", "hello") })
	if _, end := third.state(); end != nil {
		r.Fatalf("the last watch ended with %v, want it to go on", end)
	}
}
