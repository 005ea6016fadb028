package eventstream

import (
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"inbox/internal/problem"
)

const (
	// reconnectAfter is how long an EventSource waits before it reconnects, reconnectSpread how much
	// longer at most if the wait is spread.
	reconnectAfter  = time.Second
	reconnectSpread = 2 * time.Second
)

// Response is an event stream that responds to a request. What a method writes is sent at once. The
// error of each is [http.ErrAbortHandler]: the client is gone, or has not read within the timeout.
// They must not be called concurrently.
type Response struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
}

// NewResponse returns a response, of which each write is limited by the timeout; zero is no limit.
func NewResponse(w http.ResponseWriter, timeout time.Duration) *Response {
	return &Response{w, http.NewResponseController(w), timeout}
}

// Begin writes the header, and when an EventSource reconnects.
func (r *Response) Begin() error {
	header := r.w.Header()
	problem.SetInert(header)
	header.Set("Content-Type", MediaType)
	header.Set("Cache-Control", "no-store, no-transform")
	header.Set("X-Accel-Buffering", "no")
	return r.write(func(w io.Writer) error { return writeRetry(w, reconnectAfter) })
}

// Write writes an event.
func (r *Response) Write(e *Event) error { return r.write(e.write) }

// Heartbeat writes a comment, which clients ignore.
func (r *Response) Heartbeat() error { return r.write(writeHeartbeat) }

// End writes the event of the end. id, if not empty, is what an EventSource sends as Last-Event-ID
// when it reconnects. With spread, not all of them reconnect at once.
func (r *Response) End(reason, id string, spread bool) error {
	return r.write(func(w io.Writer) error {
		if spread {
			if err := writeRetry(w, reconnectAfter+rand.N(reconnectSpread)); err != nil {
				return err
			}
		}
		return writeEnd(w, reason, id)
	})
}

// write lets one function write, within the timeout.
func (r *Response) write(what func(io.Writer) error) error {
	if r.timeout > 0 {
		// An error means that w does not support deadlines, like a test's recorder.
		_ = r.control.SetWriteDeadline(time.Now().Add(r.timeout))
		// Over HTTP/2, a deadline also ends a stream that writes nothing.
		defer r.control.SetWriteDeadline(time.Time{})
	}
	if what(r.w) != nil || r.control.Flush() != nil {
		return http.ErrAbortHandler
	}
	return nil
}
