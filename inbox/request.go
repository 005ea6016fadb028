package inbox

import (
	"net/http"
	"time"

	"inbox/inbox/internal/body"
)

// canonicalHeader is Header.Get for a name in canonical form.
func canonicalHeader(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// reserveBody returns a reservation for the body of a message that is written to a stream, and
// waits for it; nil for a small body. An error ends the stream. The context of a WebSocket does not
// end with its connection.
func (h *Handler) reserveBody(r *http.Request, content []byte) (*body.Reservation, error) {
	if len(content) <= body.InitialBytes {
		return nil, nil
	}
	inFlight := h.bodies.NewReservation(h.payer(r))
	for inFlight.Reserve(int64(len(content))) != nil {
		select {
		case <-time.After(retryEvery):
			if !h.alive(r) {
				return nil, http.ErrAbortHandler
			}
		case <-h.stopping.Done():
			return nil, ErrStopping
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	return inFlight, nil
}
