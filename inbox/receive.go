package inbox

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// get responds with the oldest message, or waits for one.
func (h *Handler) get(w http.ResponseWriter, r *http.Request) error {
	name, key, err := h.credentials(r)
	if err != nil {
		return err
	}
	q, reason := h.parseQuery(r.URL.RawQuery)
	if reason != nil {
		if _, err := h.open(r, name, key); err != nil {
			return err // with a wrong password, no other reason is given
		}
		return reason
	}
	p, err := h.enterPoll(r, name, key, q.receiver())
	if p == nil {
		return err
	}
	defer h.polls.leave(p)
	if err != nil {
		return endPoll(w, err)
	}
	c, m, err := h.openNext(r, name, key, q.after, p.receiver)
	if c.Name == "" || errors.Is(err, ErrOtherReceiver) {
		return err
	}
	reason = h.polls.settle(p)
	if reason == nil && errors.Is(err, ErrEmpty) {
		m, err = h.wait(w, r, p, c, q)
	}
	if err = cmp.Or(reason, err); err != nil {
		return endPoll(w, err)
	}
	if q.hasAfter {
		// The store keeps the message: a newer poll does not have to wait until
		// it is written to a client that can have lost its network.
		h.polls.leave(p)
	}
	return h.deliver(w, r, c, m, q.hasAfter)
}

// enterPoll returns a poll that is the holder, or one that must end, with the
// reason. It returns no poll if the request is refused.
//
// The only poll of a name enters before its password is checked, so that open and
// next are one step of the store. A poll of the owner then waits for that step at
// most.
func (h *Handler) enterPoll(r *http.Request, name string, key Key, receiver Receiver) (*poll, error) {
	if p := h.polls.tryEnter(name, receiver); p != nil {
		return p, nil
	}
	// A wrong password must not end the poll of the owner, nor must a client that
	// is gone end the poll with which it came back.
	if _, err := h.open(r, name, key); err != nil {
		return nil, err
	}
	if !h.alive(r) {
		panic(http.ErrAbortHandler)
	}
	return h.polls.enter(r.Context(), name, receiver)
}

// openNext opens the mailbox as a receiver, acknowledges through ack and returns the next
// message. The claim is zero if the mailbox was not opened.
func (h *Handler) openNext(r *http.Request, name string, key Key, ack uint64, receiver Receiver) (Claim, Message, error) {
	reserved, err := h.guard.Reserve(r, PasswordGuess, name)
	if err != nil {
		return Claim{}, Message{}, err
	}
	if reserved {
		defer h.guard.Release(r, PasswordGuess, name)
	}
	c, m, err := h.store.OpenNext(r.Context(), name, key, ack, receiver)
	if c.Name != "" {
		h.guard.Record(r, PasswordMatch, name)
		return c, m, err
	}
	if c, err = h.completeOpen(r, name, key, c, err); err != nil {
		return Claim{}, m, err
	}
	return h.openClaimed(r, c, key, ack, receiver)
}

// openClaimed opens the mailbox of a claim that was just made. The claim can have ended since.
func (h *Handler) openClaimed(r *http.Request, c Claim, key Key, ack uint64, receiver Receiver) (Claim, Message, error) {
	opened, m, err := h.store.OpenNext(r.Context(), c.Name, key, ack, receiver)
	if errors.Is(err, ErrNoInbox) || errors.Is(err, ErrWrongKey) {
		return c, m, ErrClaimEnded
	}
	return opened, m, err
}

// wait returns the next message of an empty mailbox, at the latest when the poll ends.
func (h *Handler) wait(w http.ResponseWriter, r *http.Request, p *poll, c Claim, q query) (Message, error) {
	wait := h.pollTimeout
	if q.hasWait {
		wait = q.wait
	}
	if wait <= 0 {
		return Message{}, ErrEmpty
	}
	ctx, err := h.polls.waitContext(r.Context(), p)
	if err != nil {
		return Message{}, err
	}
	defer h.observeWait(w)()
	// What the receiver acknowledged is discarded: any message is a new one.
	m, err := WaitNext(ctx, h.store, c, 0, wait)
	return m, cmp.Or(h.polls.endReason(p), err)
}

// endPoll responds to a poll that ended without a message.
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
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// deliver writes m. A receiver that acknowledges messages can read m again if
// it was lost on the way. For any other receiver m is discarded here, once it
// was written to a connection that is still open.
func (h *Handler) deliver(w http.ResponseWriter, r *http.Request, c Claim, m Message, manualAck bool) error {
	if !manualAck && !h.alive(r) {
		h.requeue()
	}
	if len(m.Body) > initialBodyBytes {
		inFlight := h.bodies.newReservation(h.payer(r))
		if err := inFlight.reserve(int64(len(m.Body))); err != nil {
			return err // the message stays in the mailbox
		}
		defer inFlight.release()
	}
	control := http.NewResponseController(w)
	if h.writeTimeout > 0 {
		// A connection without deadlines has that of the server.
		_ = control.SetWriteDeadline(time.Now().Add(h.writeTimeout))
	}
	setMessageHeader(w.Header(), m)
	_, err := w.Write(m.Body)
	if manualAck {
		if err == nil {
			h.deliveries.manualAck.Add(1)
		}
		return nil
	}
	if err == nil {
		err = control.Flush()
	}
	if err != nil {
		h.requeue()
	}
	// The receiver has it, even if it closes the connection now.
	err = h.store.Discard(context.Background(), c, m.ID)
	if err != nil && !errors.Is(err, ErrClaimEnded) && !errors.Is(err, ErrStopping) {
		h.log.Error("discard a delivered message", "err", err)
	}
	h.deliveries.autoAck.Add(1)
	return nil
}

// requeue drops the connection of a receiver that did not get its message,
// which stays in the mailbox.
func (h *Handler) requeue() {
	h.deliveries.requeued.Add(1)
	panic(http.ErrAbortHandler)
}

func setMessageHeader(header http.Header, m Message) {
	fields := [...]string{contentType(m.ContentType), strconv.Itoa(len(m.Body)), escapeName(m.From), strconv.FormatUint(m.ID, 10)}
	header["Content-Type"] = fields[0:1:1] // four fields, one allocation
	header["Content-Length"] = fields[1:2:2]
	header["X-From"] = fields[2:3:3]
	header["X-Message-Id"] = fields[3:4:4]
}
