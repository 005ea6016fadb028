package inbox

import (
	"net/http"
	"sync/atomic"
	"time"

	"inbox/inbox/internal/body"
	"inbox/inbox/quota"
)

// bodyBudget bounds the bytes of large bodies that are being read or written.
// They are in no mailbox: one that is being written can outlive its mailbox.
// How long either takes is up to the client, so they are shared among payers
// as a store's bytes are. Bodies of body.InitialBytes or less are not counted.
type bodyBudget struct {
	maxBytes int64 // 0: no limit
	ledger   *quota.Ledger
	bytes    atomic.Int64
}

func (b *bodyBudget) init(maxBytes int64) {
	b.maxBytes, b.ledger = maxBytes, quota.NewLedger(Limits{MaxQueuedBytes: maxBytes})
}

// reservation is what one request holds of the budget.
type reservation struct {
	budget  *bodyBudget
	payer   Payer
	account *quota.Account
	bytes   int64
}

func (b *bodyBudget) newReservation(p Payer) *reservation { return &reservation{budget: b, payer: p} }

// reserve counts more bytes. On ErrPayerFull or ErrStoreFull it counts none.
func (r *reservation) reserve(more int64) error {
	b := r.budget
	a, err := b.ledger.Charge(r.payer, quota.Usage{Bytes: more}, quota.Usage{Bytes: b.bytes.Load()})
	if err != nil {
		return err
	}
	if total := b.bytes.Add(more); b.maxBytes > 0 && total > b.maxBytes {
		b.bytes.Add(-more)
		b.ledger.Refund(a, quota.Usage{Bytes: more})
		return ErrStoreFull
	}
	r.account = a
	r.bytes += more
	return nil
}

// reserveBody returns a reservation for the body of a message that is written to a stream, and
// waits for it; nil for a small body. An error ends the stream. The context of a WebSocket does not
// end with its connection.
func (h *Handler) reserveBody(r *http.Request, content []byte) (*reservation, error) {
	if len(content) <= body.InitialBytes {
		return nil, nil
	}
	inFlight := h.bodies.newReservation(h.payer(r))
	for inFlight.reserve(int64(len(content))) != nil {
		select {
		case <-time.After(retryEvery):
			if !h.alive(r) {
				return nil, http.ErrAbortHandler
			}
		case <-h.stopping.Done():
			return nil, ErrStopping
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	return inFlight, nil
}

// give returns bytes to the budget.
func (r *reservation) give(bytes int64) {
	r.budget.bytes.Add(-bytes)
	r.budget.ledger.Refund(r.account, quota.Usage{Bytes: bytes})
	r.bytes -= bytes
}

// release returns all of it to the budget. A second call does nothing, nor does a call of nil.
func (r *reservation) release() {
	if r == nil || r.bytes == 0 {
		return
	}
	r.give(r.bytes)
}
