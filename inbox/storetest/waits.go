package storetest

import (
	"context"
	"fmt"

	"inbox/inbox"
)

func waitNextWaits(r *rig) {
	bob := r.open("bob")
	got := r.startWaitNext(r.Context(), bob, 10*r.tick)
	r.put("bob", "hello")
	res := <-got
	r.want(res.err, nil, "next")
	r.wantBody(res.Message, "hello")
	r.wantDuration(res.took, r.tick)
}

func waitNextTimesOut(r *rig) {
	bob := r.open("bob")
	res := <-r.startWaitNext(r.Context(), bob, 4*r.tick)
	r.want(res.err, inbox.ErrEmpty, "next")
	r.wantDuration(res.took, 4*r.tick)
}

func cancelledWaitLosesNothing(r *rig) {
	bob := r.open("bob")
	for i := range 10 {
		ctx, cancel := context.WithCancel(r.Context())
		got := r.startWaitNext(ctx, bob, 10*r.tick)
		cancel()
		res := <-got
		r.want(res.err, context.Canceled, "cancelled next")
		r.put("bob", fmt.Sprint(i))
		if body := r.receive(bob); body != fmt.Sprint(i) {
			r.Fatalf("got %q, want %d", body, i)
		}
	}
}

func putWaitsForClaim(r *rig) {
	put := r.startPut(r.Context(), "bob", "hello", 10*r.tick)
	bob := r.open("bob")
	res := <-put
	r.want(res.err, nil, "put")
	r.wantDuration(res.took, r.tick)
	r.wantBody(r.next(bob, 0), "hello")
}

func putWaitTimesOut(r *rig) {
	res := <-r.startPut(r.Context(), "bob", "hello", 4*r.tick)
	r.want(res.err, inbox.ErrNoInbox, "put")
	r.wantDuration(res.took, 4*r.tick)
	r.wantEmpty(r.open("bob"))
}

func cancelledPutStoresNothing(r *rig) {
	ctx, cancel := context.WithCancel(r.Context())
	put := r.startPut(ctx, "bob", "hello", 10*r.tick)
	cancel()
	res := <-put
	r.want(res.err, context.Canceled, "cancelled put")
	r.wantEmpty(r.open("bob"))
}

func closeEndsAWait(r *rig) {
	bob := r.open("bob")
	got := r.startWaitNext(r.Context(), bob, 10*r.tick)
	r.want(r.store.Close(r.Context(), bob), nil, "close")
	res := <-got
	r.want(res.err, inbox.ErrClaimEnded, "next")
	r.wantDuration(res.took, r.tick)
}
