package quota

import (
	"hash/maphash"
	"sync"
)

// Account is what one client holds, as counted by a [Ledger].
type Account struct {
	// Payer does not change.
	Payer Payer
	usage Usage // guarded by the client's part of the ledger
}

// Ledger counts what clients and networks hold, for engines that keep
// mailboxes in this process. It has entries only for payers that hold
// something, so the limits of the store bound its size too. All methods can be
// called concurrently. Make one with [NewLedger].
type Ledger struct {
	limits   Limits
	seed     maphash.Seed
	clients  [16]clientLedger
	networks struct { // one lock: only IPv6 clients have networks
		mu    sync.Mutex
		usage map[string]Usage
	}
}

type clientLedger struct {
	mu       sync.Mutex
	accounts map[string]*Account
}

// NewLedger returns an empty ledger that keeps the per-payer limits.
func NewLedger(limits Limits) *Ledger {
	l := &Ledger{limits: limits, seed: maphash.MakeSeed()}
	for i := range l.clients {
		l.clients[i].accounts = make(map[string]*Account)
	}
	l.networks.usage = make(map[string]Usage)
	return l
}

func (l *Ledger) client(id string) *clientLedger {
	return &l.clients[maphash.String(l.seed, id)%uint64(len(l.clients))]
}

// Charge counts more against the payer and returns its account, to be given to
// [Ledger.Refund]. On an error, which is a [Error], it counts nothing.
// total is what the whole store holds: as it fills, each payer's share shrinks.
// A payer without a client has no account: nil.
func (l *Ledger) Charge(payer Payer, more, total Usage) (*Account, error) {
	if payer.Client == "" {
		return nil, nil
	}
	c := l.client(payer.Client)
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.accounts[payer.Client]
	if a == nil {
		a = &Account{Payer: payer}
	}
	if err := l.limits.allow(a.usage, more, 1, total); err != nil {
		return nil, err
	}
	if err := l.chargeNetwork(payer.Network, more, total); err != nil {
		return nil, err
	}
	a.usage.add(more)
	c.accounts[payer.Client] = a
	return a, nil
}

func (l *Ledger) chargeNetwork(id string, more, total Usage) error {
	if id == "" {
		return nil
	}
	n := &l.networks
	n.mu.Lock()
	defer n.mu.Unlock()
	u := n.usage[id]
	if err := l.limits.allow(u, more, NetworkFactor, total); err != nil {
		return err
	}
	u.add(more)
	n.usage[id] = u
	return nil
}

// Refund reverses a charge, or a part of one. A nil account has none.
func (l *Ledger) Refund(a *Account, less Usage) {
	if a == nil {
		return
	}
	less = Usage{-less.Inboxes, -less.Bytes}
	c := l.client(a.Payer.Client)
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.usage.add(less); a.usage == (Usage{}) {
		delete(c.accounts, a.Payer.Client)
	}
	l.refundNetwork(a.Payer.Network, less)
}

func (l *Ledger) refundNetwork(id string, less Usage) {
	if id == "" {
		return
	}
	n := &l.networks
	n.mu.Lock()
	defer n.mu.Unlock()
	u := n.usage[id]
	if u.add(less); u == (Usage{}) {
		delete(n.usage, id)
	} else {
		n.usage[id] = u
	}
}
