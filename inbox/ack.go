package inbox

import (
	"errors"
	"net/http"
)

// AckPath is appended to [Config.Path]: POST acknowledges messages there.
const AckPath = "/ack"

// ack discards the messages through the parameter upTo. It supersedes no receiver. Like every
// request with the password, it claims a free name or restarts the timeout of the claim.
func (h *Handler) ack(w http.ResponseWriter, r *http.Request) error {
	name, key, err := h.credentials(r)
	if err != nil {
		return err
	}
	q, reason := h.parseQuery(r.URL.RawQuery)
	if reason == nil && !q.hasUpTo {
		reason = badRequest("upTo", errors.New("must be in the query, as in ?upTo=1790000000000000"))
	}
	c, err := h.open(r, name, key)
	if err != nil {
		return err // with a wrong password, no other reason is given
	}
	if reason != nil {
		return reason
	}
	if err := h.store.Discard(r.Context(), c, q.upTo); err != nil && !errors.Is(err, ErrClaimEnded) {
		return err
	}
	h.turns.wake(name) // its window can be full
	w.WriteHeader(http.StatusNoContent)
	return nil
}
