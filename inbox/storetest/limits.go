package storetest

import (
	"time"

	"inbox/inbox"
)

func inboxFull(r *rig) {
	bob := r.open("bob")
	r.put("bob", "one")
	r.put("bob", "two")
	r.want(r.tryPut("bob", text("three")), inbox.ErrInboxFull, "put")
	r.open("carol")
	r.put("carol", "not full")
	if body := r.receive(bob); body != "one" {
		r.Fatalf("got %q, want one", body)
	}
	r.put("bob", "three")
}

func tooManyInboxes(r *rig) {
	alice := r.open("alice")
	r.open("bob")
	_, err := r.store.Open(r.Context(), "carol", key("carol"), unlimitedPayer)
	r.want(err, inbox.ErrTooManyInboxes, "open a third")
	r.open("bob")
	r.want(r.store.Close(r.Context(), alice), nil, "close")
	r.open("carol")
	time.Sleep(22 * r.tick)
	r.open("dave") // expired mailboxes do not count
	r.open("erin")
}

// storeFull fills a store of 4000 bytes with messages of 1000.
func storeFull(r *rig) {
	r.open("alice")
	bob := r.open("bob")
	body := string(make([]byte, 1000))
	for _, to := range []string{"alice", "alice", "bob"} {
		r.put(to, body)
	}
	r.want(r.tryPut("bob", text(body)), inbox.ErrStoreFull, "put")
	r.receive(bob)
	r.put("bob", body)
	time.Sleep(22 * r.tick)
	r.open("carol") // expired mailboxes do not count
	for range 3 {
		r.put("carol", body)
	}
}

// refusedPutCostsNothing checks that a Put rejected by a full store does not count
// against the quota of its payer.
func refusedPutCostsNothing(r *rig) {
	bob := r.open("bob")
	m := text(string(make([]byte, 1000)))
	for range 3 {
		r.want(r.tryPut("bob", m), nil, "put")
	}
	m.Payer = inbox.Payer{Client: "payer", Network: "network"}
	for range 40 {
		r.want(r.tryPut("bob", m), inbox.ErrStoreFull, "put")
	}
	r.receive(bob)
	r.want(r.tryPut("bob", m), nil, "put")
}

func pendingPutsAreCounted(r *rig) {
	r.open("alice")
	body := string(make([]byte, 1000))
	var pending [3]<-chan result
	for i := range pending {
		pending[i] = r.startPut(r.Context(), "bob", body, 12*r.tick)
	}
	r.want(r.tryPut("alice", text(body)), inbox.ErrStoreFull, "put")
	for _, k := range pending {
		r.want((<-k).err, inbox.ErrNoInbox, "pending put")
	}
	r.put("alice", body)
}

func payerFull(r *rig) {
	bob := r.open("bob")
	m := text(string(make([]byte, 1000)))
	m.Payer.Client = "payer"
	for range 3 {
		r.want(r.tryPut("bob", m), nil, "put")
	}
	r.want(r.tryPut("bob", m), inbox.ErrPayerFull, "put")
	r.put("bob", "from another payer")
	r.receive(bob)
	r.want(r.tryPut("bob", m), nil, "put")
	r.want(r.store.Close(r.Context(), bob), nil, "close")
	r.open("bob")
	r.want(r.tryPut("bob", m), nil, "put")
}

func payerHasTooManyInboxes(r *rig) {
	open := func(name, payer string) error {
		_, err := r.store.Open(r.Context(), name, key(name), &inbox.Payer{Client: payer})
		return err
	}
	r.want(open("alice", "payer"), nil, "open")
	r.want(open("bob", "payer"), nil, "open")
	r.want(open("carol", "payer"), inbox.ErrPayerFull, "open a third")
	r.want(open("bob", "payer"), nil, "open an existing mailbox")
	r.want(open("carol", "another"), nil, "open")
	time.Sleep(22 * r.tick)
	r.want(open("dave", "payer"), nil, "open after the others expired")
}

// networkHasSixteenBudgets checks that the clients of one network share sixteen
// budgets.
func networkHasSixteenBudgets(r *rig) {
	bob := r.open("bob")
	m := text(string(make([]byte, 1000)))
	put := func(client int, network string) error {
		m.Payer = inbox.Payer{Client: name(client), Network: network}
		return r.tryPut("bob", m)
	}
	accepted := 0
	for client := range 30 {
		for range 3 {
			if put(client, "network") == nil {
				accepted++
			}
		}
	}
	if accepted < 45 || accepted > 64 {
		r.Fatalf("got %d messages of a network accepted, want sixteen budgets of 3 to 4", accepted)
	}
	r.want(put(31, "network"), inbox.ErrPayerFull, "put")
	r.want(put(32, "another"), nil, "put of another network")
	opened := 0
	for i := range 30 {
		_, err := r.store.Open(r.Context(), name(i), key("k"), &inbox.Payer{Client: name(i), Network: "network"})
		if err == nil {
			opened++
		}
	}
	if opened != 16 {
		r.Fatalf("got %d mailboxes of a network, want 16", opened)
	}
	r.want(r.store.Close(r.Context(), bob), nil, "close")
	r.open("bob")
	r.want(put(31, "network"), nil, "put after all was freed")
}

// fullPayersLeaveCapacity has a hundred payers queue as much as possible, in messages
// of the largest size and of the size of an offer. A new payer can still queue 1 MiB.
func fullPayersLeaveCapacity(r *rig) {
	for _, size := range []int{1 << 20, 100 << 10} {
		var claims []inbox.Claim
		put := func(payer string, size int) error {
			m := inbox.Message{From: "sender", Body: make([]byte, size), Payer: inbox.Payer{Client: payer}}
			return r.tryPut("to-"+payer, m)
		}
		for i := range 101 {
			claims = append(claims, r.open("to-"+name(i)))
			for i < 100 && put(name(i), size) == nil {
			}
		}
		for range 16 {
			r.want(put(name(100), 64<<10-200), nil, "put of a new payer")
		}
		for _, c := range claims {
			r.want(r.store.Close(r.Context(), c), nil, "close")
		}
	}
}

// fullPayersLeaveNames has a hundred clients, and then seven networks of many clients,
// claim as many names as possible. A new client of a new network can still claim one.
func fullPayersLeaveNames(r *rig) {
	for _, row := range []struct{ clients, networks int }{{100, 0}, {7 * 50, 7}} {
		var claims []inbox.Claim
		claim := func(p inbox.Payer) error {
			name := name(len(claims))
			c, err := r.store.Open(r.Context(), name, key(name), &p)
			if err == nil {
				claims = append(claims, c)
			}
			return err
		}
		for i := range row.clients {
			p := inbox.Payer{Client: name(i)}
			if row.networks > 0 {
				p.Network = name(i % row.networks)
			}
			err := error(nil)
			for err == nil {
				err = claim(p)
			}
			r.want(err, inbox.ErrPayerFull, "claim beyond a share")
		}
		for i := range 8 {
			r.want(claim(inbox.Payer{Client: name(-1 - i), Network: name(-1 - i)}), nil, "claim of a new client")
		}
		for _, c := range claims {
			r.want(r.store.Close(r.Context(), c), nil, "close")
		}
		claims = nil
		for range 100 {
			r.want(claim(inbox.Payer{Client: name(0), Network: name(0)}), nil, "claim after all was freed")
		}
		for _, c := range claims {
			r.want(r.store.Close(r.Context(), c), nil, "close")
		}
	}
}

// expiredInboxIsReplaced checks that an expired mailbox does not count against the
// limits, even if only one mailbox is allowed.
func expiredInboxIsReplaced(r *rig) {
	for range 3 {
		_, err := r.store.Open(r.Context(), "bob", key("bob"), &inbox.Payer{Client: "payer"})
		r.want(err, nil, "open")
		time.Sleep(22 * r.tick)
	}
}
