package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
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

func order(r *rig) {
	bob := r.open("bob")
	for i := range 20 {
		r.put("bob", fmt.Sprint(i))
	}
	var last uint64
	for i := range 20 {
		m := r.next(bob, last)
		r.wantBody(m, fmt.Sprint(i))
		if m.ID <= last {
			r.Fatalf("got ID %d after %d, want it to increase", m.ID, last)
		}
		last = m.ID
	}
}

func nextDoesNotRemove(r *rig) {
	bob := r.open("bob")
	r.put("bob", "one")
	first := r.next(bob, 0)
	if again := r.next(bob, 0); again.ID != first.ID {
		r.Fatalf("got message %d again, want %d", again.ID, first.ID)
	}
}

func nextReadsAboveAnID(r *rig) {
	bob := r.open("bob")
	for _, body := range []string{"one", "two", "three"} {
		r.put("bob", body)
	}
	one := r.next(bob, 0)
	r.wantBody(r.next(bob, one.ID-1), "one")
	two := r.next(bob, one.ID)
	r.wantBody(two, "two")
	r.wantBody(r.next(bob, one.ID), "two")
	three := r.next(bob, two.ID)
	r.wantBody(three, "three")
	for range 2 {
		_, err := r.store.Next(r.Context(), bob, three.ID)
		r.want(err, inbox.ErrEmpty, "next after the last")
	}
	r.wantBody(r.next(bob, 0), "one")
	r.want(r.store.Discard(r.Context(), bob, two.ID), nil, "discard")
	r.wantBody(r.next(bob, 0), "three")
	r.wantBody(r.next(bob, one.ID), "three")
	_, err := r.store.Next(r.Context(), bob, three.ID)
	r.want(err, inbox.ErrEmpty, "next after the last")
}

func unknownIDReadsFromTheOldest(r *rig) {
	bob := r.open("bob")
	r.put("bob", "one")
	one := r.next(bob, 0)
	for _, unknown := range []uint64{one.ID + 1, 1 << 60, ^uint64(0)} {
		r.wantBody(r.next(bob, unknown), "one")
		_, m, err := r.store.OpenNext(r.Context(), "bob", key("bob"), unknown)
		r.want(err, nil, "open next")
		r.wantBody(m, "one")
		r.want(r.store.Discard(r.Context(), bob, unknown), nil, "discard")
	}
	r.wantBody(r.next(bob, 0), "one")
	r.want(r.store.Discard(r.Context(), bob, one.ID), nil, "discard")
	for _, unknown := range []uint64{one.ID + 1, 1 << 60, ^uint64(0)} {
		_, err := r.store.Next(r.Context(), bob, unknown)
		r.want(err, inbox.ErrEmpty, "next of an empty mailbox")
	}
}

func discardRemoves(r *rig) {
	bob := r.open("bob")
	for _, body := range []string{"one", "two", "three"} {
		r.put("bob", body)
	}
	one := r.next(bob, 0)
	r.want(r.store.Discard(r.Context(), bob, one.ID-1), nil, "discard nothing")
	r.wantBody(r.next(bob, 0), "one")
	r.want(r.store.Discard(r.Context(), bob, one.ID), nil, "discard")
	two := r.next(bob, 0)
	r.put("bob", "four")
	r.want(r.store.Discard(r.Context(), bob, two.ID), nil, "discard")
	r.wantBody(r.next(bob, 0), "three")
}

func messageIsWhole(r *rig) {
	bob := r.open("bob")
	body := bytes.Repeat([]byte{0, 0xff, '\n'}, 100)
	sent := inbox.Message{From: "Älice %", ContentType: "application/sdp", Body: body}
	r.want(r.tryPut("bob", sent), nil, "put")
	r.put("bob", "")
	m := r.next(bob, 0)
	if m.From != sent.From || m.ContentType != sent.ContentType || !bytes.Equal(m.Body, body) {
		r.Fatalf("got %+v, want %+v", m, sent)
	}
	r.wantBody(r.next(bob, m.ID), "")
}

func putReturnsTheID(r *rig) {
	bob := r.open("bob")
	for range 3 {
		id, err := r.store.Put(r.Context(), "bob", text("hello"), 0)
		r.want(err, nil, "put")
		if m := r.next(bob, id-1); m.ID != id {
			r.Fatalf("put returned ID %d, next %d", id, m.ID)
		}
	}
	_, last, err := r.store.OpenPut(r.Context(), "bob", key("bob"), "bob", text("last"))
	r.want(err, nil, "open put")
	if m := r.next(bob, last-1); m.ID != last || string(m.Body) != "last" {
		r.Fatalf("open put returned ID %d, next %d with %q", last, m.ID, m.Body)
	}
	pending := r.startPut(r.Context(), "carol", "hello", 10*r.tick)
	carol := r.open("carol")
	if res, m := <-pending, r.next(carol, 0); res.err != nil || res.ID != m.ID {
		r.Fatalf("pending put returned ID %d, %v, next %d", res.ID, res.err, m.ID)
	}
}

func openPut(r *rig) {
	m := text("hello")
	try := func(key inbox.Key, to string) (inbox.Claim, error) {
		c, _, err := r.store.OpenPut(r.Context(), "alice", key, to, m)
		return c, err
	}
	c, err := try(key("alice"), "bob")
	r.want(err, inbox.ErrNoInbox, "open put of an unclaimed name")
	r.wantClaim(c, inbox.Claim{})
	alice, bob := r.open("alice"), r.open("bob")
	alice.Created = false
	c, err = try(key("another"), "bob")
	r.want(err, inbox.ErrWrongKey, "open put with a wrong key")
	r.wantClaim(c, inbox.Claim{})
	c, err = try(key("alice"), "carol")
	r.want(err, inbox.ErrNoInbox, "open put to an unclaimed name")
	r.wantClaim(c, alice)
	r.wantEmpty(bob)
	c, err = try(key("alice"), "bob")
	r.want(err, nil, "open put")
	r.wantClaim(c, alice)
	got := r.next(bob, 0)
	r.wantBody(got, "hello")
	if got.From != m.From {
		r.Fatalf("got a message from %q, want %q", got.From, m.From)
	}
	m.Body, m.Payer = make([]byte, 3000), inbox.Payer{Client: "payer"}
	_, err = try(key("alice"), "bob")
	r.want(err, nil, "open put")
	c, err = try(key("alice"), "bob")
	r.want(err, inbox.ErrPayerFull, "open put of a full payer")
	r.wantClaim(c, alice)
	c, err = try(key("another"), "bob")
	r.want(err, inbox.ErrWrongKey, "open put of a full payer with a wrong key")
	r.wantClaim(c, inbox.Claim{})
}

func openNext(r *rig) {
	try := func(key inbox.Key, ack uint64) (inbox.Claim, inbox.Message, error) {
		return r.store.OpenNext(r.Context(), "bob", key, ack)
	}
	c, _, err := try(key("bob"), 0)
	r.want(err, inbox.ErrNoInbox, "open next of an unclaimed name")
	r.wantClaim(c, inbox.Claim{})
	bob := r.open("bob")
	bob.Created = false
	c, _, err = try(key("bob"), 0)
	r.want(err, inbox.ErrEmpty, "open next of an empty mailbox")
	r.wantClaim(c, bob)
	r.put("bob", "one")
	r.put("bob", "two")
	c, one, err := try(key("bob"), 0)
	r.want(err, nil, "open next")
	r.wantClaim(c, bob)
	r.wantBody(one, "one")
	c, _, err = try(key("another"), one.ID)
	r.want(err, inbox.ErrWrongKey, "open next with a wrong key")
	r.wantClaim(c, inbox.Claim{})
	r.wantBody(r.next(bob, 0), "one") // the wrong key acknowledged nothing
	_, two, err := try(key("bob"), one.ID)
	r.want(err, nil, "open next")
	r.wantBody(two, "two")
	r.wantBody(r.next(bob, 0), "two")
	_, again, err := try(key("bob"), one.ID)
	r.want(err, nil, "open next with the same acknowledgement again")
	r.wantBody(again, "two")
	_, _, err = try(key("bob"), two.ID)
	r.want(err, inbox.ErrEmpty, "open next after the last")
	r.wantEmpty(bob)
}

func emptyAtOnce(r *rig) {
	bob := r.open("bob")
	r.wantEmpty(bob)
}

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

func noInbox(r *rig) {
	r.want(r.tryPut("bob", text("hello")), inbox.ErrNoInbox, "put to an unclaimed name")
	bob := r.open("bob")
	r.wantEmpty(bob)
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

func closeEndsAWait(r *rig) {
	bob := r.open("bob")
	got := r.startWaitNext(r.Context(), bob, 10*r.tick)
	r.want(r.store.Close(r.Context(), bob), nil, "close")
	res := <-got
	r.want(res.err, inbox.ErrClaimEnded, "next")
	r.wantDuration(res.took, r.tick)
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

func idsAreNeverReused(r *rig) {
	var last uint64
	for range 20 {
		bob := r.open("bob")
		for range 5 {
			r.put("bob", "hello")
			m := r.next(bob, last)
			if m.ID <= last {
				r.Fatalf("got ID %d after %d, want a higher one", m.ID, last)
			}
			r.want(r.store.Discard(r.Context(), bob, m.ID), nil, "discard")
			last = m.ID
		}
		r.want(r.store.Close(r.Context(), bob), nil, "close")
	}
}

// idsFollowTheClock checks that IDs are at least the time in microseconds, so that a
// store without memory of an earlier one never reuses its IDs, unless that assigned
// more than a million per second.
func idsFollowTheClock(r *rig) {
	began := uint64(time.Now().Add(-time.Second).UnixMicro())
	bob := r.open("bob")
	r.put("bob", "hello")
	if id := r.next(bob, 0).ID; id < began {
		r.Fatalf("got ID %d, want one above %d, the microseconds since 1970", id, began)
	}
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
