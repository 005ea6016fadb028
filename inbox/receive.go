package inbox

import (
	"errors"
	"net/http"

	"inbox/inbox/internal/query"
	"inbox/internal/websocket"
)

// get responds with the oldest message, or waits for one, or with a stream of messages.
func (h *Handler) get(w http.ResponseWriter, r *http.Request) error {
	if h.pollTimeout > 0 && websocket.IsUpgrade(r) {
		return h.upgrade(w, r)
	}
	name, key, err := h.credentials(r)
	if err != nil {
		return err
	}
	q, reason := query.Parse(r.URL.RawQuery, h.pollTimeout)
	isStream := h.pollTimeout > 0 && AcceptsEvents(r)
	if reason == nil && isStream {
		reason = readLastEventID(&q, r)
	}
	if reason != nil {
		if _, err := h.open(r, name, key); err != nil {
			return err // with a wrong password, no other reason is given
		}
		return reason
	}
	if isStream {
		return h.events(w, r, name, key, q)
	}
	return h.poll(w, r, name, key, q)
}

// newReceiver returns a receiver that was not opened: a stream with the window of the handler, or a
// long poll, whose window is its one message. Without after it is plain.
func (h *Handler) newReceiver(t Transport, name string, q query.Query) *receiver {
	rc := &receiver{
		turns: &h.turns, store: h.store, counts: &h.receivers[t], log: h.log,
		name: name, client: Client{ID: q.ClientID(), Resume: q.Resume}, plain: !q.HasAfter,
	}
	switch {
	case t != LongPoll:
		rc.window = h.window
	case q.HasAfter:
		rc.window = 1
	}
	return rc
}

// openReceiver opens the mailbox for rc, acknowledges through ack and reads the first message. An
// error refuses the request. A receiver that is superseded meanwhile is no error: its next method
// returns the reason. The caller must let rc leave in either case. It uses r for its context, the
// guard, the payer and the connection.
//
// The only receiver of a name enters before its password is checked, so that open and next are one
// step of the store. A receiver of the owner then waits for that step at most.
func (h *Handler) openReceiver(r *http.Request, key Key, ack uint64, rc *receiver) error {
	if !h.turns.tryEnter(rc) {
		// A wrong password must not end the receiver of the owner, nor must a client that is gone
		// end the one with which it came back.
		if _, err := h.open(r, rc.name, key); err != nil {
			return err
		}
		if !h.alive(r) {
			panic(http.ErrAbortHandler)
		}
		rc.admitted = true
		if err := h.turns.enter(r.Context(), rc); err != nil || rc.isOver() {
			return err
		}
	}
	c, m, err := h.openNext(r, rc.name, key, ack, rc.client)
	if c.Name == "" || errors.Is(err, ErrOtherReceiver) {
		return err
	}
	rc.start(c, m, err)
	return nil
}

// openNext opens the mailbox as a client, acknowledges through ack and returns the next message.
// The claim is zero if the mailbox was not opened.
func (h *Handler) openNext(r *http.Request, name string, key Key, ack uint64, client Client) (Claim, Message, error) {
	reserved, err := h.guard.Reserve(r, PasswordGuess, name)
	if err != nil {
		return Claim{}, Message{}, err
	}
	if reserved {
		defer h.guard.Release(r, PasswordGuess, name)
	}
	c, m, err := h.store.OpenNext(r.Context(), name, key, ack, client)
	if c.Name != "" {
		if refusal := h.matched(r, c, key); refusal != nil {
			return Claim{}, Message{}, refusal
		}
		return c, m, err
	}
	if c, err = h.completeOpen(r, name, key, c, err); err != nil {
		return Claim{}, m, err
	}
	return h.openClaimed(r, c, key, ack, client)
}

// openClaimed opens the mailbox of a claim that was just made. The claim can have ended since.
func (h *Handler) openClaimed(r *http.Request, c Claim, key Key, ack uint64, client Client) (Claim, Message, error) {
	opened, m, err := h.store.OpenNext(r.Context(), c.Name, key, ack, client)
	if errors.Is(err, ErrNoInbox) || errors.Is(err, ErrWrongKey) {
		return c, m, ErrClaimEnded
	}
	return opened, m, err
}
