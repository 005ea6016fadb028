package body

import (
	"io"
	"net/http"
	"sync/atomic"

	"inbox/inbox/quota"
)

// Budget bounds the bytes of large bodies that are being read or written. They are in no mailbox:
// one that is being written can outlive its mailbox. How long either takes is up to the client, so
// they are shared among payers as a store's bytes are. Bodies of [InitialBytes] or less are not
// counted. All methods can be called concurrently.
type Budget struct {
	maxBytes int64 // 0: no limit
	full     error
	ledger   *quota.Ledger
	bytes    atomic.Int64
}

// NewBudget returns a budget of maxBytes; zero is no limit. full is the error when they are used up.
func NewBudget(maxBytes int64, full error) *Budget {
	return &Budget{maxBytes: maxBytes, full: full, ledger: quota.NewLedger(quota.Limits{MaxQueuedBytes: maxBytes})}
}

// ReadRequest reads the body of a request, of at most maxBytes, and allocates memory as it arrives. The
// memory counts against payer while it is read. Errors: [http.MaxBytesError], those of
// [Reservation.Reserve], and of reading.
func (b *Budget) ReadRequest(
	w http.ResponseWriter, r *http.Request, maxBytes int64, payer func(*http.Request) quota.Payer,
) ([]byte, error) {
	defer func() { r.Trailer = nil }() // a send can wait, and hundreds of fields with it
	size := r.ContentLength
	if size > maxBytes {
		return nil, &http.MaxBytesError{Limit: maxBytes}
	}
	if 0 <= size && size <= InitialBytes {
		content := make([]byte, size)
		_, err := io.ReadFull(r.Body, content)
		return content, err
	}
	inFlight := b.NewReservation(payer(r))
	defer inFlight.Release() // the store counts the bytes it gets
	return read(http.MaxBytesReader(w, r.Body, maxBytes), size, inFlight.Reserve)
}

// Reservation is what one request holds of a budget. It is not for concurrent use.
type Reservation struct {
	budget  *Budget
	payer   quota.Payer
	account *quota.Account
	bytes   int64
}

// NewReservation returns a reservation of nothing yet, which counts against a payer.
func (b *Budget) NewReservation(p quota.Payer) *Reservation { return &Reservation{budget: b, payer: p} }

// Reserve counts more bytes. If the payer or all have used up theirs, it counts none: the error is
// [quota.ErrExceeded], or that of the budget.
func (r *Reservation) Reserve(more int64) error {
	b := r.budget
	a, err := b.ledger.Charge(r.payer, quota.Usage{Bytes: more}, quota.Usage{Bytes: b.bytes.Load()})
	if err != nil {
		return err
	}
	if total := b.bytes.Add(more); b.maxBytes > 0 && total > b.maxBytes {
		b.bytes.Add(-more)
		b.ledger.Refund(a, quota.Usage{Bytes: more})
		return b.full
	}
	r.account = a
	r.bytes += more
	return nil
}

// Give returns bytes to the budget.
func (r *Reservation) Give(bytes int64) {
	r.budget.bytes.Add(-bytes)
	r.budget.ledger.Refund(r.account, quota.Usage{Bytes: bytes})
	r.bytes -= bytes
}

// Release returns all of it to the budget. A second call does nothing, nor does a call of nil.
func (r *Reservation) Release() {
	if r == nil || r.bytes == 0 {
		return
	}
	r.Give(r.bytes)
}
