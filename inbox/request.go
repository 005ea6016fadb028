package inbox

import (
	"io"
	"net/http"

	"inbox/inbox/internal/body"
)

// canonicalHeader is Header.Get for a name in canonical form.
func canonicalHeader(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// readBody reads at most maxBytes, and allocates as they arrive.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	defer func() { r.Trailer = nil }() // a send can wait, and hundreds of fields with it
	size := r.ContentLength
	if size > h.maxBytes {
		return nil, &http.MaxBytesError{Limit: h.maxBytes}
	}
	if 0 <= size && size <= body.InitialBytes {
		content := make([]byte, size)
		_, err := io.ReadFull(r.Body, content)
		return content, err
	}
	inFlight := h.bodies.newReservation(h.payer(r))
	defer inFlight.release() // the store counts the bytes it gets
	return body.Read(http.MaxBytesReader(w, r.Body, h.maxBytes), size, inFlight.reserve)
}
