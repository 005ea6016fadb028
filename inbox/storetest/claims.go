package storetest

import (
	"context"
	"time"

	"inbox/inbox"
)

func keyIsChecked(r *rig) {
	r.open("bob")
	_, err := r.store.Open(r.Context(), "bob", key("another"), unlimitedPayer)
	r.want(err, inbox.ErrWrongKey, "open with another key")
	r.open("bob")
}

func claimIsOneOfItsName(r *rig) {
	first, second := r.open("bob"), r.open("bob")
	if first.Epoch != second.Epoch || !first.Created || second.Created {
		r.Fatalf("got claims %+v and %+v, want the same claim, created by the first open", first, second)
	}
	if first.Name != "bob" {
		r.Fatalf("got a claim of %q, want bob", first.Name)
	}
}

func openWithoutPayerClaimsNothing(r *rig) {
	_, err := r.store.Open(r.Context(), "bob", key("bob"), nil)
	r.want(err, inbox.ErrNoInbox, "open without a payer")
	r.want(r.tryPut("bob", text("hello")), inbox.ErrNoInbox, "put")
	r.open("bob")
	_, err = r.store.Open(r.Context(), "bob", key("bob"), nil)
	r.want(err, nil, "open of an existing claim without a payer")
	_, err = r.store.Open(r.Context(), "bob", key("another"), nil)
	r.want(err, inbox.ErrWrongKey, "open with another key without a payer")
}

func noInbox(r *rig) {
	r.want(r.tryPut("bob", text("hello")), inbox.ErrNoInbox, "put to an unclaimed name")
	bob := r.open("bob")
	r.wantEmpty(bob)
}

func closeEndsTheClaim(r *rig) {
	bob := r.open("bob")
	r.put("bob", "hello")
	r.want(r.store.Close(r.Context(), bob), nil, "close")
	r.want(r.store.Close(r.Context(), bob), inbox.ErrClaimEnded, "close again")
	r.want(r.store.Discard(r.Context(), bob, 1), inbox.ErrClaimEnded, "discard")
	_, err := r.store.Next(r.Context(), bob, 0)
	r.want(err, inbox.ErrClaimEnded, "next")
	r.want(r.tryPut("bob", text("hello")), inbox.ErrNoInbox, "put")
	c, err := r.store.Open(r.Context(), "bob", key("another"), unlimitedPayer)
	r.want(err, nil, "open by another")
	r.wantEmpty(c)
}

func successorIsNotRead(r *rig) {
	bob := r.open("bob")
	got := r.startWaitNext(r.Context(), bob, 10*r.tick)
	r.want(r.store.Close(r.Context(), bob), nil, "close")
	successor, err := r.store.Open(r.Context(), "bob", key("another"), unlimitedPayer)
	r.want(err, nil, "open by another")
	r.put("bob", "for the successor")
	r.want((<-got).err, inbox.ErrClaimEnded, "next of the predecessor")
	_, err = r.store.Next(r.Context(), bob, 0)
	r.want(err, inbox.ErrClaimEnded, "next of the predecessor")
	r.want(r.store.Discard(r.Context(), bob, ^uint64(0)), inbox.ErrClaimEnded, "discard of the predecessor")
	r.want(r.store.Close(r.Context(), bob), inbox.ErrClaimEnded, "close of the predecessor")
	r.wantBody(r.next(successor, 0), "for the successor")
}

func expires(r *rig) {
	bob := r.open("bob")
	r.put("bob", "hello")
	time.Sleep(22 * r.tick)
	_, err := r.store.Next(r.Context(), bob, 0)
	r.want(err, inbox.ErrClaimEnded, "next after the timeout")
	r.want(r.tryPut("bob", text("hello")), inbox.ErrNoInbox, "put after the timeout")
	c, err := r.store.Open(r.Context(), "bob", key("another"), unlimitedPayer)
	r.want(err, nil, "open by another")
	r.wantEmpty(c)
}

func openKeepsAlive(r *rig) {
	bob := r.open("bob")
	r.put("bob", "hello")
	for range 4 {
		time.Sleep(14 * r.tick)
		r.open("bob")
		_, err := r.store.Open(r.Context(), "bob", key("another"), unlimitedPayer)
		r.want(err, inbox.ErrWrongKey, "open with another key")
	}
	r.wantBody(r.next(bob, 0), "hello")
}

func endOfAWaitKeepsAlive(r *rig) {
	bob := r.open("bob")
	res := <-r.startWaitNext(r.Context(), bob, 14*r.tick)
	r.want(res.err, inbox.ErrEmpty, "next")
	time.Sleep(14 * r.tick)
	r.put("bob", "hello")
	r.wantBody(r.next(bob, 0), "hello")
}

func cancelledWaitKeepsAlive(r *rig) {
	bob := r.open("bob")
	ctx, cancel := context.WithCancel(r.Context())
	got := r.startWaitNext(ctx, bob, 60*r.tick)
	time.Sleep(10 * r.tick)
	cancel()
	r.want((<-got).err, context.Canceled, "cancelled next")
	time.Sleep(14 * r.tick)
	r.put("bob", "hello")
	r.wantBody(r.next(bob, 0), "hello")
}

func waitOutlivesTheTimeout(r *rig) {
	bob := r.open("bob")
	res := <-r.startWaitNext(r.Context(), bob, 50*r.tick)
	r.want(res.err, inbox.ErrEmpty, "wait for longer than the timeout")
	r.wantDuration(res.took, 50*r.tick)
	r.put("bob", "hello")
	r.wantBody(r.next(bob, 0), "hello")
}
