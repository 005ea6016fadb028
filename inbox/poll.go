package inbox

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"inbox/inbox/internal/body"
	"inbox/inbox/internal/mediatype"
	"inbox/inbox/internal/names"
	"inbox/inbox/internal/query"
	"inbox/internal/problem"
)

// poll responds with one message: a receiver that ends after it.
func (h *Handler) poll(w http.ResponseWriter, r *http.Request, name string, key Key, q query.Query) error {
	rc := h.newReceiver(LongPoll, name, q)
	defer rc.leave()
	if err := h.openReceiver(r, key, q.After, rc); err != nil {
		return err
	}
	m, err := rc.next(r.Context())
	if wait := q.WaitOr(h.pollTimeout); wait > 0 && errors.Is(err, ErrEmpty) {
		m, err = h.await(w, r, rc, wait)
	}
	if err != nil {
		return endPoll(w, err)
	}
	return h.deliver(w, r, rc, m)
}

// await counts the request while it waits for a message.
func (h *Handler) await(w http.ResponseWriter, r *http.Request, rc *receiver, wait time.Duration) (Message, error) {
	leave, err := h.enter(r)
	if err != nil {
		return Message{}, err
	}
	defer leave()
	defer h.observeWait(w)()
	return rc.await(r.Context(), wait)
}

// endPoll responds to a poll that ended without a message. There is no body to make inert, but a
// cache may store a 204 that does not forbid it (RFC 9110, section 15.3.5).
func endPoll(w http.ResponseWriter, err error) error {
	switch {
	case errors.Is(err, ErrEmpty), errors.Is(err, ErrClaimEnded):
	case errors.Is(err, ErrSuperseded):
		w.Header().Set("X-Poll-Ended", "superseded")
	case errors.Is(err, ErrStopping):
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Connection", "close")
	default:
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// deliver writes m. A receiver that acknowledges messages can read m again if
// it was lost on the way. For any other receiver m is discarded here, once it
// was written to a connection that is still open.
func (h *Handler) deliver(w http.ResponseWriter, r *http.Request, rc *receiver, m Message) error {
	if rc.plain && !h.alive(r) {
		rc.requeue()
	}
	if len(m.Body) > body.InitialBytes {
		inFlight := h.bodies.NewReservation(h.payer(r))
		if err := inFlight.Reserve(int64(len(m.Body))); err != nil {
			return err // the message stays in the mailbox
		}
		defer inFlight.Release()
	}
	control := http.NewResponseController(w)
	if h.writeTimeout > 0 {
		// A connection without deadlines has that of the server.
		_ = control.SetWriteDeadline(time.Now().Add(h.writeTimeout))
	}
	setMessageHeader(w.Header(), m)
	_, err := w.Write(m.Body)
	if err == nil && rc.plain {
		err = control.Flush()
	}
	switch {
	case err == nil:
		rc.wrote()
	case rc.plain:
		rc.requeue()
	}
	return nil
}

// requeue drops the connection of a receiver that did not get its message,
// which stays in the mailbox.
func (rc *receiver) requeue() {
	rc.counts.requeued.Add(1)
	panic(http.ErrAbortHandler)
}

func setMessageHeader(header http.Header, m Message) {
	fields := [...]string{mediatype.OrBytes(m.ContentType), strconv.Itoa(len(m.Body)), names.Escape(m.From), strconv.FormatUint(m.ID, 10)}
	header["Content-Type"] = fields[0:1:1] // four fields, one allocation
	header["Content-Length"] = fields[1:2:2]
	header["X-From"] = fields[2:3:3]
	header["X-Message-Id"] = fields[3:4:4]
	problem.SetInert(header)
}
