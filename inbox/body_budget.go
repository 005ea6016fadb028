package inbox

import "sync/atomic"

// bodyBudget counts the large bodies that are in no mailbox: on their way in, and on
// their way out to somebody whose mailbox may be gone before all is read. How
// long either takes is the client's choice, so they are shared out as the
// store's room is. Small ones, of bodyStart bytes or less, are not counted:
// what they take is what any request does.
type bodyBudget struct {
	limits Limits
	payers payers
	bytes  atomic.Int64
}

// init grants so many bytes in all; zero is no limit.
func (b *bodyBudget) init(maxBytes int64) {
	b.limits = Limits{MaxQueuedBytes: maxBytes}
	b.payers.init()
}

// reservation is what one request has in hand.
type reservation struct {
	budget  *bodyBudget
	payer   Payer
	account *account
	bytes   int64
}

func (b *bodyBudget) newReservation(p Payer) *reservation { return &reservation{budget: b, payer: p} }

// reserve counts more bytes, or none and returns ErrPayerFull or ErrStoreFull.
func (r *reservation) reserve(more int64) error {
	b := r.budget
	a, err := b.payers.charge(r.payer, usage{bytes: more}, b.limits, b.bytes.Load())
	if err != nil {
		return err
	}
	if total := b.bytes.Add(more); b.limits.MaxQueuedBytes > 0 && total > b.limits.MaxQueuedBytes {
		b.bytes.Add(-more)
		b.payers.refund(a, usage{bytes: more})
		return ErrStoreFull
	}
	r.account = a
	r.bytes += more
	return nil
}

// release gives all of it back.
func (r *reservation) release() {
	if r.bytes == 0 {
		return
	}
	r.budget.bytes.Add(-r.bytes)
	r.budget.payers.refund(r.account, usage{bytes: r.bytes})
	r.bytes = 0
}
