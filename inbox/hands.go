package inbox

import "sync/atomic"

// hands counts the large bodies that are in no mailbox: on their way in, and on
// their way out to somebody whose mailbox may be gone before all is read. How
// long either takes is the client's choice, so they are shared out as the
// store's room is. Small ones, of bodyStart bytes or less, are not counted:
// what they take is what any request does.
type hands struct {
	limits Limits
	payers payers
	bytes  atomic.Int64
}

// init grants so many bytes in all; zero is no limit.
func (h *hands) init(maxBytes int64) {
	h.limits = Limits{MaxQueuedBytes: maxBytes}
	h.payers.init()
}

// hold is what one request has in hand.
type hold struct {
	hands   *hands
	payer   Payer
	account *account
	bytes   int64
}

func (h *hands) hold(p Payer) *hold { return &hold{hands: h, payer: p} }

// take counts more bytes, or none and returns ErrPayerFull or ErrStoreFull.
func (o *hold) take(more int64) error {
	h := o.hands
	a, err := h.payers.charge(o.payer, holding{bytes: more}, h.limits, h.bytes.Load())
	if err != nil {
		return err
	}
	if total := h.bytes.Add(more); h.limits.MaxQueuedBytes > 0 && total > h.limits.MaxQueuedBytes {
		h.bytes.Add(-more)
		h.payers.refund(a, holding{bytes: more})
		return ErrStoreFull
	}
	o.account = a
	o.bytes += more
	return nil
}

// release gives all of it back.
func (o *hold) release() {
	if o.bytes == 0 {
		return
	}
	o.hands.bytes.Add(-o.bytes)
	o.hands.payers.refund(o.account, holding{bytes: o.bytes})
	o.bytes = 0
}
