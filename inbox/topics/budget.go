package topics

import (
	"sync/atomic"

	"inbox/inbox"
	"inbox/inbox/quota"
)

// budget bounds bytes that payers share.
type budget struct {
	max    int64 // 0: no limit
	used   atomic.Int64
	ledger *quota.Ledger
}

func (b *budget) init(maxBytes int64) {
	b.max, b.ledger = maxBytes, quota.NewLedger(inbox.Limits{MaxQueuedBytes: maxBytes})
}

// reservation is what a connection has of a budget. It is not safe for concurrent use.
type reservation struct {
	account *quota.Account
	bytes   int64
}

// resize makes a reservation as large as n, and reports whether it is. A smaller one never fails.
func (b *budget) resize(r *reservation, payer inbox.Payer, n int64) bool {
	more := n - r.bytes
	switch {
	case more > 0:
		total := b.used.Add(more)
		account, err := b.ledger.Charge(payer, quota.Usage{Bytes: more}, quota.Usage{Bytes: total - more})
		if err != nil || b.max > 0 && total > b.max {
			b.used.Add(-more)
			if err == nil {
				b.ledger.Refund(account, quota.Usage{Bytes: more})
			}
			return false
		}
		r.account = account
	case more < 0:
		b.used.Add(more)
		b.ledger.Refund(r.account, quota.Usage{Bytes: -more})
	}
	r.bytes = n
	return true
}
