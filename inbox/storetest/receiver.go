package storetest

import (
	"errors"
	"math"
	"sync/atomic"
	"time"

	"inbox/inbox"
)

// other returns the store of another process, if the engine is shared, or else the same.
func (r *rig) other() inbox.Store {
	if r.join == nil {
		return r.store
	}
	return r.join(r.T, r.store)
}

// readAs opens bob's mailbox as a receiver.
func (r *rig) readAs(s inbox.Store, id uint64, resume bool) (inbox.Claim, inbox.Message, error) {
	return s.OpenNext(r.Context(), "bob", key("bob"), 0, inbox.Client{ID: id, Resume: resume})
}

// resumeAfterAnotherReceiver has two clients read a mailbox, at different processes. The highest
// ID has all bits set, as a hash can.
func resumeAfterAnotherReceiver(r *rig) {
	r.open("bob")
	const phone, laptop = 1, math.MaxUint64
	other := r.other()
	for i, step := range []struct {
		store  inbox.Store
		id     uint64
		resume bool
		want   error
	}{
		{r.store, phone, true, inbox.ErrEmpty}, // no client has read it yet
		{other, phone, true, inbox.ErrEmpty},
		{other, laptop, true, inbox.ErrOtherReceiver},
		{other, laptop, false, inbox.ErrEmpty},
		{r.store, phone, true, inbox.ErrOtherReceiver},
		{r.store, phone, true, inbox.ErrOtherReceiver}, // the attempt made it not the last one
		{r.store, laptop, true, inbox.ErrEmpty},
		{r.store, 0, true, inbox.ErrEmpty}, // no client
		{other, laptop, true, inbox.ErrEmpty},
		{other, phone, true, inbox.ErrOtherReceiver},
		{r.store, phone, false, inbox.ErrEmpty},
		{other, laptop, true, inbox.ErrOtherReceiver},
		{other, phone, true, inbox.ErrEmpty},
	} {
		c, _, err := r.readAs(step.store, step.id, step.resume)
		if !errors.Is(err, step.want) || c.Name != "bob" || c.Receiver != step.id {
			r.Errorf("step %d: got %+v, %v, want a claim as receiver %d and %v", i, c, err, step.id, step.want)
		}
	}
	_, _, err := r.store.OpenNext(r.Context(), "bob", key("another"), 0, inbox.Client{ID: laptop, Resume: true})
	r.want(err, inbox.ErrWrongKey, "resume with another key")
	_, _, err = r.store.OpenNext(r.Context(), "carol", key("carol"), 0, inbox.Client{ID: laptop, Resume: true})
	r.want(err, inbox.ErrNoInbox, "resume of an unclaimed name")
}

func refusedResumeChangesNothing(r *rig) {
	bob := r.open("bob")
	_, _, err := r.readAs(r.store, 1, false)
	r.want(err, inbox.ErrEmpty, "read")
	r.put("bob", "hello")
	m := r.next(bob, 0)
	_, got, err := r.store.OpenNext(r.Context(), "bob", key("bob"), m.ID, inbox.Client{ID: 2, Resume: true})
	r.want(err, inbox.ErrOtherReceiver, "resume with an acknowledgement")
	r.wantBody(got, "")
	r.wantBody(r.next(bob, 0), "hello")
	_, got, err = r.readAs(r.store, 1, true)
	r.want(err, nil, "resume")
	r.wantBody(got, "hello")
}

// refusedResumeDoesNotKeepAlive has a client try to resume the mailbox of a receiver that is gone.
func refusedResumeDoesNotKeepAlive(r *rig) {
	r.open("bob")
	_, _, err := r.readAs(r.store, 1, false)
	r.want(err, inbox.ErrEmpty, "read")
	for range 15 {
		time.Sleep(2 * r.tick)
		if _, _, err = r.readAs(r.store, 2, true); !errors.Is(err, inbox.ErrOtherReceiver) {
			break
		}
	}
	r.want(err, inbox.ErrNoInbox, "resume after the timeout")
}

// checkDoesNotKeepAlive checks the key of a claim until it expires.
func checkDoesNotKeepAlive(r *rig) {
	bob := r.open("bob")
	_, err := r.store.Check(r.Context(), "bob", key("another"))
	r.want(err, inbox.ErrWrongKey, "check of another key")
	c, err := r.store.Check(r.Context(), "bob", key("bob"))
	if bob.Created = false; err != nil || c != bob {
		r.Fatalf("got the claim %+v, %v, want %+v", c, err, bob)
	}
	for range 15 {
		time.Sleep(2 * r.tick)
		if _, err = r.store.Check(r.Context(), "bob", key("bob")); err != nil {
			break
		}
	}
	r.want(err, inbox.ErrNoInbox, "check after the timeout")
	r.want(r.tryPut("bob", text("hello")), inbox.ErrNoInbox, "put after the timeout")
}

func lastReceiverEndsWithTheClaim(r *rig) {
	bob := r.open("bob")
	_, _, err := r.readAs(r.store, 1, false)
	r.want(err, inbox.ErrEmpty, "read")
	r.want(r.store.Close(r.Context(), bob), nil, "close")
	r.open("bob")
	_, _, err = r.readAs(r.other(), 2, true)
	r.want(err, inbox.ErrEmpty, "resume of the next claim")
}

// concurrentResumes has clients resume at the same time: the first one wins.
func concurrentResumes(r *rig) {
	r.open("bob")
	stores := []inbox.Store{r.store, r.other()}
	var admitted atomic.Int64
	concurrently(20, func(i int) {
		switch _, _, err := r.readAs(stores[i%2], uint64(i+1), true); {
		case errors.Is(err, inbox.ErrEmpty):
			admitted.Add(1)
		case !errors.Is(err, inbox.ErrOtherReceiver):
			r.Errorf("got %v, want ErrEmpty or ErrOtherReceiver", err)
		}
	})
	if n := admitted.Load(); n != 1 {
		r.Errorf("got %d receivers, want one", n)
	}
}

// watchEndsForAnotherProcess opens a watched mailbox at another process, as a client and as none.
func watchEndsForAnotherProcess(r *rig) {
	if r.join == nil {
		r.Skip("the engine is not shared between processes")
	}
	r.open("bob")
	other := r.other()
	phone, _, err := r.readAs(r.store, 1, false)
	r.want(err, inbox.ErrEmpty, "read")
	w := r.watch(r.store, phone)
	r.wantNews(w, func() { r.put("bob", "hello") }) // it is registered
	_, _, err = r.readAs(other, 0, false)
	r.want(err, nil, "read as no client")
	if _, end := w.state(); end != nil {
		r.Errorf("the watch ended with %v", end)
	}
	_, _, err = r.readAs(other, 1, false) // the same client, over another connection
	r.want(err, nil, "read")
	r.wantEnd(w, inbox.ErrSuperseded)
}

// watchOfAnEarlierReceiver registers the watch of a receiver after another one has read the
// mailbox, as after an outage of the store. The watch of the other one stays.
func watchOfAnEarlierReceiver(r *rig) {
	r.open("bob")
	other := r.other()
	phone, _, err := r.readAs(r.store, 1, false)
	r.want(err, inbox.ErrEmpty, "read")
	laptop, _, err := r.readAs(other, 2, false)
	r.want(err, inbox.ErrEmpty, "read")
	w := r.watch(other, laptop)
	late := &watcher{}
	if stop, err := r.store.Watch(phone, late.notify); err == nil {
		r.Cleanup(stop)
		r.wantEnd(late, inbox.ErrSuperseded)
	} else {
		r.want(err, inbox.ErrSuperseded, "watch")
	}
	r.wantNews(w, func() { r.put("bob", "hello") })
	if _, end := w.state(); end != nil {
		r.Errorf("the watch of the last receiver ended with %v", end)
	}
	r.watch(r.store, r.open("bob")) // a claim of Open has no receiver
}
