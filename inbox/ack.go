package inbox

import (
	"errors"
	"net/http"

	"inbox/inbox/internal/query"
	"inbox/internal/problem"
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
	q, reason := query.Parse(r.URL.RawQuery, h.pollTimeout)
	if reason == nil && !q.HasUpTo {
		reason = problem.BadRequest("upTo", errors.New("must be in the query, as in ?upTo=1790000000000000"))
	}
	c, err := h.open(r, name, key)
	if err != nil {
		return err // with a wrong password, no other reason is given
	}
	if reason != nil {
		return reason
	}
	if err := h.store.Discard(r.Context(), c, q.UpTo); err != nil && !errors.Is(err, ErrClaimEnded) {
		return err
	}
	h.turns.acknowledged(name)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
