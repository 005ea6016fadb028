package inbox

import (
	"hash/maphash"
	"math"
	"sync"
)

// usage is what somebody holds of a store.
type usage struct {
	inboxes int
	bytes   int64
}

// account is what one client holds; the lock of its part of the ledger guards
// it.
type account struct {
	payer Payer
	usage
}

// payers counts what each client and each network holds. Entries exist while
// they hold something, so the store's own limits bound them.
type payers struct {
	seed     maphash.Seed
	clients  [16]clientLedger
	networks networkLedger
}

type clientLedger struct {
	mu       sync.Mutex
	accounts map[string]*account
}

// networkLedger has one lock for all: only IPv6 has networks.
type networkLedger struct {
	mu    sync.Mutex
	usage map[string]usage
}

func (p *payers) init() {
	p.seed = maphash.MakeSeed()
	for i := range p.clients {
		p.clients[i].accounts = make(map[string]*account)
	}
	p.networks.usage = make(map[string]usage)
}

func (p *payers) client(id string) *clientLedger {
	return &p.clients[maphash.String(p.seed, id)%uint64(len(p.clients))]
}

// charge counts more against the payer, or nothing and ErrPayerFull. Queued is
// what the whole store has queued. Nobody, the payer without a client, has no
// account: nil.
func (p *payers) charge(payer Payer, more usage, limits Limits, queued int64) (*account, error) {
	if payer.Client == "" {
		return nil, nil
	}
	l := p.client(payer.Client)
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[payer.Client]
	if a == nil {
		a = &account{payer: payer}
	}
	if err := limits.allow(a.usage, more, 1, queued); err != nil {
		return nil, err
	}
	if err := p.networks.charge(payer.Network, more, limits, queued); err != nil {
		return nil, err
	}
	a.add(more)
	l.accounts[payer.Client] = a
	return a, nil
}

func (p *payers) refund(a *account, less usage) {
	if a == nil {
		return
	}
	less = usage{-less.inboxes, -less.bytes}
	l := p.client(a.payer.Client)
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.add(less); a.usage == (usage{}) {
		delete(l.accounts, a.payer.Client)
	}
	p.networks.add(a.payer.Network, less)
}

func (l *networkLedger) charge(id string, more usage, limits Limits, queued int64) error {
	if id == "" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.usage[id]
	if err := limits.allow(h, more, NetworkFactor, queued); err != nil {
		return err
	}
	h.add(more)
	l.usage[id] = h
	return nil
}

func (l *networkLedger) add(id string, more usage) {
	if id == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.usage[id]
	if h.add(more); h == (usage{}) {
		delete(l.usage, id)
	} else {
		l.usage[id] = h
	}
}

func (h *usage) add(more usage) {
	h.inboxes += more.inboxes
	h.bytes += more.bytes
}

// allow returns nil if somebody who holds h may hold more, with so many
// budgets, else a PayerError.
func (l Limits) allow(h, more usage, factor int, queued int64) error {
	if quota := factor * l.MaxInboxesPerPayer; more.inboxes > 0 && quota > 0 && h.inboxes+more.inboxes > quota {
		return &PayerError{"inboxes", int64(quota)}
	}
	if quota := l.quotaBytes(int64(factor), queued); more.bytes > 0 && h.bytes+more.bytes > quota {
		return &PayerError{"queued-bytes", quota}
	}
	return nil
}

// quotaBytes is how many bytes one payer may have queued now.
func (l Limits) quotaBytes(factor, queued int64) int64 {
	quota := int64(math.MaxInt64)
	if l.MaxQueuedBytesPerPayer > 0 {
		quota = factor * l.MaxQueuedBytesPerPayer
	}
	if l.MaxQueuedBytes > 0 {
		quota = min(quota, l.share(queued, factor))
	}
	return quota
}

// share is what one payer may hold of a store that has so much queued. Half of
// it is kept back, or more where a hundred hoarders and a newcomer after them had
// less than 1 MiB each otherwise; a store for which that is too much gives them
// a 240th. Of the rest anybody may take a quarter of what is free. The last
// sixteenth is for those who hold next to nothing, so that they can call.
func (l Limits) share(queued, factor int64) int64 {
	const minReserveBytes, minShareBytes = 16 << 10, 64 << 10
	const maxedOutPayers, targetShareBytes = 102, 1<<20 + 1<<16
	free, reserve := l.MaxQueuedBytes-queued, l.MaxQueuedBytes/16
	fixedShare, heldBack := max(l.MaxQueuedBytes/240, minShareBytes), l.MaxQueuedBytes/2
	if need := reserve + maxedOutPayers*targetShareBytes; need < l.MaxQueuedBytes {
		fixedShare, heldBack = max(fixedShare, targetShareBytes), max(heldBack, need)
	}
	switch {
	case free > heldBack:
		return max(free/4, minShareBytes*factor)
	case free > reserve:
		return fixedShare * factor
	default:
		return max(l.MaxQueuedBytes/4096, minReserveBytes) * factor
	}
}

// charge counts n's bytes against the store and its payer, whose share is that
// of a store with so much queued.
func (m *Memory) charge(n *node, queued int64) error {
	a, err := m.payers.charge(n.Payer, usage{bytes: n.size()}, m.limits, queued)
	if err != nil {
		return err
	}
	if total := m.bytes.Add(n.size()); m.limits.MaxQueuedBytes > 0 && total > m.limits.MaxQueuedBytes {
		m.bytes.Add(-n.size())
		m.payers.refund(a, usage{bytes: n.size()})
		return ErrStoreFull
	}
	m.messages.Add(1)
	n.payer, n.Payer = a, Payer{} // two strings less for as long as it is queued
	return nil
}

func (m *Memory) refund(n *node) {
	m.bytes.Add(-n.size())
	m.messages.Add(-1)
	m.payers.refund(n.payer, usage{bytes: n.size()})
}

func (m *Memory) refundAll(n *node) {
	for ; n != nil; n = n.next {
		m.refund(n)
	}
}

// release gives back what a removed mailbox held. It takes no shard's lock, so
// that a large mailbox keeps nobody waiting.
func (m *Memory) release(b *box) {
	if b == nil {
		return
	}
	m.inboxes.Add(-1)
	m.payers.refund(b.payer, usage{inboxes: 1})
	m.refundAll(b.first)
	b.first, b.last = nil, nil
}
