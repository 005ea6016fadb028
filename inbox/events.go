package inbox

import (
	"cmp"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"inbox/inbox/internal/eventstream"
	"inbox/inbox/internal/mediatype"
	"inbox/inbox/internal/query"
	"inbox/internal/problem"
)

const (
	// DefaultHeartbeat is how often a stream without messages shows that it is alive, so that no
	// proxy and no browser ends it: some do after 30 seconds.
	DefaultHeartbeat = 25 * time.Second
	// reconnectAfter is how long an EventSource waits before it reconnects. When the server stops
	// it waits up to reconnectSpread longer, so that not all of them come at once.
	reconnectAfter  = time.Second
	reconnectSpread = 2 * time.Second
	// supersededID is the Last-Event-ID of an EventSource that was superseded.
	supersededID = "superseded"
)

// AcceptsEvents reports whether a GET asks for a stream of Server-Sent Events.
func AcceptsEvents(r *http.Request) bool { return eventstream.Accepted(r.Header) }

// readLastEventID reads the field Last-Event-ID of a stream: it acknowledges as after does, which
// replaces it.
func readLastEventID(q *query.Query, r *http.Request) (err error) {
	lastID := canonicalHeader(r.Header, "Last-Event-Id")
	if lastID == "" || lastID == supersededID || q.HasAfter {
		return nil
	}
	if q.After, err = query.ParseID(lastID); err != nil {
		return problem.BadRequest("Last-Event-ID", errors.New("must be the ID of a message"))
	}
	return nil
}

// events responds with a stream of messages. An EventSource that was superseded comes back once
// more: 204 stops it.
func (h *Handler) events(w http.ResponseWriter, r *http.Request, name string, key Key, q query.Query) error {
	if canonicalHeader(r.Header, "Last-Event-Id") == supersededID {
		if _, err := h.open(r, name, key); err != nil {
			return err
		}
		return endPoll(w, ErrSuperseded)
	}
	leave, err := h.enter(r)
	if err != nil {
		return err
	}
	defer leave()
	rc := h.newReceiver(EventStream, name, q)
	defer rc.leave()
	if err := h.openReceiver(r, key, q.After, rc); err != nil {
		return err
	}
	wake := make(chan struct{}, 1)
	err = rc.watch(func() { wake <- struct{}{} })
	if err != nil && endReason(err) == "" {
		return err
	}
	defer h.observeWait(w)()
	s := &eventStream{h: h, r: r, rc: rc, w: w, control: http.NewResponseController(w)}
	if err = cmp.Or(s.begin(), err); err == nil {
		err = s.run(wake)
	}
	return s.end(err)
}

// eventStream is the response to a receiver.
type eventStream struct {
	h       *Handler
	r       *http.Request
	rc      *receiver
	w       http.ResponseWriter
	control *http.ResponseController
}

// run hands out messages until the receiver is over or its client is gone. A client that reads
// nothing is gone when a write fails.
func (s *eventStream) run(wake <-chan struct{}) error {
	ctx, heartbeats := s.r.Context(), time.NewTicker(s.h.socketConfig.PingInterval)
	defer heartbeats.Stop()
	err := s.rc.handOut(ctx, s.message)
	for err == nil || err == errMore {
		if err == errMore {
			err = s.rc.handOut(ctx, s.message)
			continue
		}
		select {
		case <-wake:
			err = s.rc.handOut(ctx, s.message)
		case <-heartbeats.C:
			err = s.write(eventstream.WriteHeartbeat)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return err
}

// begin writes the header and the first bytes.
func (s *eventStream) begin() error {
	header := s.w.Header()
	problem.SetInert(header)
	header.Set("Content-Type", eventstream.MediaType)
	header.Set("Cache-Control", "no-store, no-transform")
	header.Set("X-Accel-Buffering", "no")
	return s.write(func(w io.Writer) error { return eventstream.WriteRetry(w, reconnectAfter) })
}

// end ends the stream with the reason, if its client can learn it.
func (s *eventStream) end(err error) error {
	reason := endReason(err)
	switch {
	case reason != "":
		if err = s.write(func(w io.Writer) error { return writeEnd(w, reason) }); err == nil {
			return nil
		}
	case s.r.Context().Err() != nil:
		return nil
	case err != http.ErrAbortHandler:
		s.h.log.Error("hand out messages", "err", err)
	}
	panic(http.ErrAbortHandler)
}

func writeEnd(w io.Writer, reason string) error {
	id := ""
	switch reason {
	case reasonSuperseded:
		id = supersededID
	case reasonStopping:
		if err := eventstream.WriteRetry(w, reconnectAfter+rand.N(reconnectSpread)); err != nil {
			return err
		}
	}
	return eventstream.WriteEnd(w, reason, id)
}

// message writes m. A large body counts against the budget of in-flight bodies, for which it
// waits.
func (s *eventStream) message(m Message) error {
	if s.rc.plain && s.rc.window == 0 && !s.h.alive(s.r) {
		return http.ErrAbortHandler
	}
	inFlight, err := s.h.reserveBody(s.r, m.Body)
	if err != nil {
		return err
	}
	defer inFlight.Release()
	kind := mediatype.Short(m.ContentType)
	event := eventstream.Event{ID: m.ID, From: m.From, Type: kind, IsBytes: kind == mediatype.Bytes, Body: m.Body}
	return s.write(event.Write)
}

// write lets one function write, within the write timeout. The error is http.ErrAbortHandler.
func (s *eventStream) write(what func(io.Writer) error) error {
	if s.h.writeTimeout > 0 {
		// An error means that w does not support deadlines, like a test's recorder.
		_ = s.control.SetWriteDeadline(time.Now().Add(s.h.writeTimeout))
		// Over HTTP/2, a deadline also ends a stream that writes nothing.
		defer s.control.SetWriteDeadline(time.Time{})
	}
	if what(s.w) != nil || s.control.Flush() != nil {
		return http.ErrAbortHandler
	}
	return nil
}
