package inbox

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"inbox/inbox/internal/mediatype"
	"inbox/inbox/internal/query"
)

// post leaves a message in a mailbox. It reads the request before it checks the
// password, so that open and put are one step of the store. That adds no way to
// send without a password: the first request of a free name has the right one.
// The order of refusals does not depend on it.
func (h *Handler) post(w http.ResponseWriter, r *http.Request) error {
	name, key, err := h.credentials(r)
	if err != nil {
		return err
	}
	q, reason := h.parsePost(r)
	if reason == nil {
		var reserved bool
		if reserved, reason = h.admitMiss(r, q.To); reserved {
			defer h.guard.Release(r, UnknownCode, q.To)
		}
	}
	var body []byte
	if reason == nil {
		body, reason = h.bodies.ReadRequest(w, r, h.maxBytes, h.payer)
	}
	if reason != nil || q.Wait > 0 {
		if _, err := h.open(r, name, key); err != nil {
			return err // with a wrong password, no other reason is given
		}
	}
	if reason != nil {
		return reason
	}
	m := Message{From: name, ContentType: mediatype.Safe(canonicalHeader(r.Header, "Content-Type")), Body: body, Payer: h.payer(r)}
	if q.Wait > 0 {
		err = h.putAndWait(w, r, q.To, m, q.Wait)
	} else {
		err = h.openPut(r, name, key, q.To, m)
	}
	h.recordMiss(r, q.To, err)
	return err
}

// putAndWait is putPending for a POST, which counts while it waits.
func (h *Handler) putAndWait(w http.ResponseWriter, r *http.Request, to string, m Message, wait time.Duration) error {
	leave, err := h.enter(r)
	if err != nil {
		return err
	}
	defer leave()
	defer h.observeWait(w)()
	// The deadline for the body must not end the wait.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return h.putPending(r, to, m, wait)
}

// admitSend asks the guard before a stream puts a message, whose sender's password was checked. The
// outcome must be passed to ended, which records a miss and returns the outcome.
func (h *Handler) admitSend(r *http.Request, to string) (ended func(error) error, err error) {
	reserved, err := h.admitMiss(r, to)
	if err != nil {
		return nil, err
	}
	return func(err error) error {
		h.recordMiss(r, to, err)
		if reserved {
			h.guard.Release(r, UnknownCode, to)
		}
		return err
	}, nil
}

// recordMiss reports to the guard a send whose recipient does not exist. A client that disconnects
// can know whether the name is claimed: it stopped waiting, or learns it from the recipient.
func (h *Handler) recordMiss(r *http.Request, to string, err error) {
	if errors.Is(err, ErrNoInbox) || err != nil && r.Context().Err() != nil {
		h.guard.Record(r, h.missOf(to), to)
	}
}

// parsePost parses what precedes the body of a POST, without the credentials.
func (h *Handler) parsePost(r *http.Request) (q query.Query, err error) {
	if q, err = query.Parse(r.URL.RawQuery, h.pollTimeout); err == nil {
		err = q.ParseRecipient()
	}
	if err == nil && mediatype.IsEncoded(r.Header) {
		err = errContentEncoding
	}
	return q, err
}

// admitMiss asks the guard before it is known whether the recipient exists. Only codes
// reserve the cost, as a pending send lasts long. The body is not read yet, so that no memory
// waits for a reservation.
func (h *Handler) admitMiss(r *http.Request, to string) (reserved bool, err error) {
	if h.access != nil {
		if err := h.access.AdmitSend(tokenOf(r), to); err != nil {
			return false, err
		}
	}
	miss := h.missOf(to)
	if err := h.guard.Allow(r, miss, to); err != nil || miss != UnknownCode {
		return false, err
	}
	return h.guard.Reserve(r, miss, to)
}

// missOf returns what a message to a name that is not claimed counts as.
func (h *Handler) missOf(to string) Attempt {
	if h.isCode(to) {
		return UnknownCode
	}
	return UnknownRecipient
}

// openPut opens the sender's mailbox and puts m. ErrNoInbox means that the
// recipient has none.
func (h *Handler) openPut(r *http.Request, name string, key Key, to string, m Message) error {
	reserved, err := h.guard.Reserve(r, PasswordGuess, name)
	if err != nil {
		return err
	}
	if reserved {
		defer h.guard.Release(r, PasswordGuess, name)
	}
	c, _, err := h.store.OpenPut(r.Context(), name, key, to, m)
	if c.Name != "" {
		return cmp.Or(h.matched(r, c, key), err)
	}
	if _, err := h.completeOpen(r, name, key, c, err); err != nil {
		return err
	}
	_, err = h.store.Put(r.Context(), to, m, 0)
	return err
}

// putPending waits up to wait for the recipient to claim its name, and not beyond the stop of the
// server or the end of the sender's invitation.
func (h *Handler) putPending(r *http.Request, to string, m Message, wait time.Duration) error {
	if wait <= 0 {
		_, err := h.store.Put(r.Context(), to, m, 0)
		return err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.stopping, func() { cancel(ErrStopping) })()
	if h.access != nil {
		defer h.pending.Add(cancel, func() error { return h.access.AdmitSend(tokenOf(r), to) })()
	}
	_, err := h.store.Put(ctx, to, m, wait)
	if err != nil && r.Context().Err() == nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
