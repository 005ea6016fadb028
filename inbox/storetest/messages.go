package storetest

import (
	"bytes"
	"fmt"
	"time"

	"inbox/inbox"
)

func order(r *rig) {
	bob := r.open("bob")
	for i := range 20 {
		r.put("bob", fmt.Sprint(i))
	}
	var last uint64
	for i := range 20 {
		m := r.next(bob, last)
		r.wantBody(m, fmt.Sprint(i))
		if last != 0 && m.ID != last+1 {
			r.Fatalf("got ID %d after %d, want the next number", m.ID, last)
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
		_, m, err := r.store.OpenNext(r.Context(), "bob", key("bob"), unknown, inbox.Client{})
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
		return r.store.OpenNext(r.Context(), "bob", key, ack, inbox.Client{})
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
