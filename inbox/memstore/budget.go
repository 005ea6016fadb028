package memstore

import (
	"inbox/inbox"
	"inbox/inbox/quota"
)

// charge counts the bytes of n against the store and its payer. The payer's
// share is that of a store with this much queued.
func (m *Store) charge(n *node, queued int64) error {
	a, err := m.ledger.Charge(n.Payer, quota.Usage{Bytes: n.size()}, quota.Usage{Bytes: queued})
	if err != nil {
		return err
	}
	if total := m.bytes.Add(n.size()); m.limits.MaxQueuedBytes > 0 && total > m.limits.MaxQueuedBytes {
		m.bytes.Add(-n.size())
		m.ledger.Refund(a, quota.Usage{Bytes: n.size()})
		return inbox.ErrStoreFull
	}
	m.messages.Add(1)
	n.payer, n.Payer = a, inbox.Payer{} // saves two strings while it is queued
	return nil
}

func (m *Store) refund(n *node) {
	m.bytes.Add(-n.size())
	m.messages.Add(-1)
	m.ledger.Refund(n.payer, quota.Usage{Bytes: n.size()})
}

func (m *Store) refundAll(n *node) {
	for ; n != nil; n = n.next {
		m.refund(n)
	}
}

// release refunds what a removed mailbox held. It takes no shard's lock, so that
// no request waits for a large mailbox.
func (m *Store) release(b *box) {
	if b == nil {
		return
	}
	m.inboxes.Add(-1)
	m.ledger.Refund(b.payer, quota.Usage{Inboxes: 1})
	m.refundAll(b.first)
	b.first, b.last = nil, nil
}
