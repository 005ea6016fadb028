package inbox

import (
	"errors"
	"net/http"
)

// postCombined is post at a store that takes both steps in one. So the body is read
// before the password is checked; that opens no door, since whoever asks for a
// free name has the right password. Which refusal comes first stays the same.
func (h *Handler) postCombined(w http.ResponseWriter, r *http.Request) error {
	name, key, err := h.credentials(r)
	if err != nil {
		return err
	}
	q, body, reason := h.readPost(w, r)
	if reason != nil || q.wait > 0 {
		if _, err := h.open(r); err != nil {
			return err // whose password is wrong may not know more
		}
	}
	if reason != nil {
		return reason
	}
	m := h.message(r, name, body)
	if q.wait > 0 {
		return h.put(w, r, q, m)
	}
	from, err := h.combined.OpenPut(r.Context(), name, key, q.to, m)
	if from.Name == "" {
		if _, err := h.finishOpen(r, name, key, from, err); err != nil {
			return err
		}
		return h.put(w, r, q, m)
	}
	h.guard.Record(r, PasswordMatch, name)
	if errors.Is(err, ErrNoInbox) {
		h.guard.Record(r, UnknownRecipient, q.to)
	}
	return err
}

// readPost reads what a post says, beside whose it is.
func (h *Handler) readPost(w http.ResponseWriter, r *http.Request) (q query, body []byte, err error) {
	if q, err = h.parseQuery(r.URL.RawQuery); err != nil {
		return q, nil, err
	}
	if err = checkRecipient(q); err != nil {
		return q, nil, err
	}
	if err = h.guard.Allow(r, UnknownRecipient, q.to); err != nil {
		return q, nil, err
	}
	body, err = h.readBody(w, r)
	return q, body, err
}

// getCombined is get at such a store, for the only poll of a name; it is not done
// when there is another. It takes the turn before the password is checked: the
// owner, should it come now, waits for the store's answer at most, and a
// stranger cannot end a poll.
func (h *Handler) getCombined(w http.ResponseWriter, r *http.Request) (handled bool, err error) {
	name, key, err := h.credentials(r)
	if err != nil {
		return true, err
	}
	q, err := h.parseQuery(r.URL.RawQuery)
	if err != nil {
		return false, nil // the password comes first
	}
	p := h.polls.tryEnter(name)
	if p == nil {
		return false, nil
	}
	defer h.polls.leave(p)
	claim, m, err := h.combined.OpenNext(r.Context(), name, key, q.after)
	if claim.Name != "" {
		h.guard.Record(r, PasswordMatch, name)
		return true, h.respond(w, r, p, claim, q, m, err)
	}
	if claim, err = h.finishOpen(r, name, key, claim, err); err != nil {
		return true, err
	}
	m, err = h.store.Next(r.Context(), claim, q.after, 0)
	return true, h.respond(w, r, p, claim, q, m, err)
}
