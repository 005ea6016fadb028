package inbox

import (
	"errors"
	"net/http"
)

// postFar is post at a store that takes both steps in one. So the body is read
// before the password is checked; that opens no door, since whoever asks for a
// free name has the right password. Which refusal comes first stays the same.
func (h *Handler) postFar(w http.ResponseWriter, r *http.Request) error {
	name, key, err := h.credentials(r)
	if err != nil {
		return err
	}
	q, body, why := h.readPost(w, r)
	if why != nil || q.wait > 0 {
		if _, err := h.open(r); err != nil {
			return err // whose password is wrong may not know more
		}
	}
	if why != nil {
		return why
	}
	m := h.message(r, name, body)
	if q.wait > 0 {
		return h.put(w, r, q, m)
	}
	from, err := h.far.OpenPut(r.Context(), name, key, q.to, m)
	if from.Name == "" {
		if _, err := h.opened(r, name, key, from, err); err != nil {
			return err
		}
		return h.put(w, r, q, m)
	}
	h.guard.Did(r, RightPassword, name)
	if errors.Is(err, ErrNoInbox) {
		h.guard.Did(r, MissedName, q.to)
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
	if err = h.guard.May(r, MissedName, q.to); err != nil {
		return q, nil, err
	}
	body, err = h.readBody(w, r)
	return q, body, err
}

// getFar is get at such a store, for the only poll of a name; it is not done
// when there is another. It takes the turn before the password is checked: the
// owner, should it come now, waits for the store's answer at most, and a
// stranger cannot end a poll.
func (h *Handler) getFar(w http.ResponseWriter, r *http.Request) (done bool, err error) {
	name, key, err := h.credentials(r)
	if err != nil {
		return true, err
	}
	q, err := h.parseQuery(r.URL.RawQuery)
	if err != nil {
		return false, nil // the password comes first
	}
	p := h.polls.first(name)
	if p == nil {
		return false, nil
	}
	defer h.polls.leave(p)
	claim, m, err := h.far.OpenNext(r.Context(), name, key, q.after)
	if claim.Name != "" {
		h.guard.Did(r, RightPassword, name)
		return true, h.hand(w, r, p, claim, q, m, err)
	}
	if claim, err = h.opened(r, name, key, claim, err); err != nil {
		return true, err
	}
	m, err = h.store.Next(r.Context(), claim, q.after, 0)
	return true, h.hand(w, r, p, claim, q, m, err)
}
