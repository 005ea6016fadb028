package inbox

import (
	"context"
	"errors"
	"net/http"
	"time"
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
	q, body, reason := h.readPost(w, r)
	if reason != nil || q.wait > 0 {
		if err := h.open(r, name, key); err != nil {
			return err // with a wrong password, no other reason is given
		}
	}
	if reason != nil {
		return reason
	}
	m := Message{From: name, ContentType: safeContentType(canonicalHeader(r.Header, "Content-Type")), Body: body, Payer: h.payer(r)}
	if q.wait > 0 {
		err = h.putPending(w, r, q, m)
	} else {
		err = h.openPut(r, name, key, q.to, m)
	}
	// A client that stops waiting has learned that the name is not claimed.
	if errors.Is(err, ErrNoInbox) || q.wait > 0 && errors.Is(err, context.Canceled) {
		h.guard.Record(r, UnknownRecipient, q.to)
	}
	return err
}

// readPost reads all of a POST but its credentials.
func (h *Handler) readPost(w http.ResponseWriter, r *http.Request) (q query, body []byte, err error) {
	if q, err = h.parseQuery(r.URL.RawQuery); err != nil {
		return q, nil, err
	}
	if err = q.parseRecipient(); err != nil {
		return q, nil, err
	}
	if err = checkContentEncoding(r); err != nil {
		return q, nil, err
	}
	if err = h.guard.Allow(r, UnknownRecipient, q.to); err != nil {
		return q, nil, err
	}
	body, err = h.readBody(w, r)
	return q, body, err
}

// openPut opens the sender's mailbox and puts m. ErrNoInbox means that the
// recipient has none.
func (h *Handler) openPut(r *http.Request, name string, key Key, to string, m Message) error {
	c, _, err := h.store.OpenPut(r.Context(), name, key, to, m)
	if c.Name != "" {
		h.guard.Record(r, PasswordMatch, name)
		return err
	}
	if _, err := h.completeOpen(r, name, key, c, err); err != nil {
		return err
	}
	_, err = h.store.Put(r.Context(), to, m, 0)
	return err
}

// putPending waits for the recipient to claim its name.
func (h *Handler) putPending(w http.ResponseWriter, r *http.Request, q query, m Message) error {
	// The deadline for the body must not end the wait.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	defer h.observeWait(w)()
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.stopping, func() { cancel(ErrStopping) })()
	_, err := h.store.Put(ctx, q.to, m, q.wait)
	if err != nil && context.Cause(ctx) == ErrStopping {
		return ErrStopping
	}
	return err
}
