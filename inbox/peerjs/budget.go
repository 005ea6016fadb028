package peerjs

import (
	"sync/atomic"

	"inbox/inbox"
	"inbox/inbox/quota"
)

const (
	// maxAbsent bounds the absent ids for which frames wait, and maxAbsentPerPayer those of one
	// payer, whose share shrinks as they become more.
	maxAbsent, maxAbsentPerPayer = 16 << 10, 512
	// freeBytes of a frame that is being read or written are not accounted for.
	freeBytes = 4 << 10
)

// budget bounds what is in no mailbox, and shares it among payers.
type budget struct {
	maxBytes int64
	ledger   *quota.Ledger
	queues   atomic.Int64
	bytes    atomic.Int64
}

func (b *budget) init(maxBytes int64) {
	b.maxBytes = maxBytes
	b.ledger = quota.NewLedger(inbox.Limits{MaxQueuedBytes: maxBytes, MaxInboxes: maxAbsent, MaxInboxesPerPayer: maxAbsentPerPayer})
}

// charge is what one user holds of a budget. The zero value holds nothing.
type charge struct {
	account *quota.Account
	usage   quota.Usage
}

// take adds to a charge, and reports whether there is room.
func (b *budget) take(c *charge, p inbox.Payer, more quota.Usage) bool {
	queues, bytes := b.queues.Add(int64(more.Inboxes)), b.bytes.Add(more.Bytes)
	total := quota.Usage{Inboxes: int(queues) - more.Inboxes, Bytes: bytes - more.Bytes}
	ok := queues <= maxAbsent && (b.maxBytes <= 0 || bytes <= b.maxBytes)
	if ok {
		account, err := b.ledger.Charge(p, more, total)
		if ok = err == nil; ok {
			c.account = account
			c.usage.Inboxes += more.Inboxes
			c.usage.Bytes += more.Bytes
			return true
		}
	}
	b.queues.Add(-int64(more.Inboxes))
	b.bytes.Add(-more.Bytes)
	return false
}

// give returns a part of a charge.
func (b *budget) give(c *charge, less quota.Usage) {
	b.queues.Add(-int64(less.Inboxes))
	b.bytes.Add(-less.Bytes)
	if c.account != nil {
		b.ledger.Refund(c.account, less)
	}
	c.usage.Inboxes -= less.Inboxes
	c.usage.Bytes -= less.Bytes
}

// giveAll returns a charge.
func (b *budget) giveAll(c *charge) { b.give(c, c.usage) }
