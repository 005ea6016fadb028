package inbox

import (
	"cmp"
	"errors"
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
	s := &eventStream{h: h, r: r, rc: rc, out: eventstream.NewResponse(w, h.writeTimeout)}
	if err = cmp.Or(s.out.Begin(), err); err == nil {
		err = s.run(wake)
	}
	return s.end(err)
}

// eventStream is the response to a receiver.
type eventStream struct {
	h   *Handler
	r   *http.Request
	rc  *receiver
	out *eventstream.Response
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
			err = s.out.Heartbeat()
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return err
}

// end ends the stream with the reason, if its client can learn it.
func (s *eventStream) end(err error) error {
	reason := endReason(err)
	switch {
	case reason != "":
		id := ""
		if reason == reasonSuperseded {
			id = supersededID
		}
		if s.out.End(reason, id, reason == reasonStopping) == nil {
			return nil
		}
	case s.r.Context().Err() != nil:
		return nil
	case err != http.ErrAbortHandler:
		s.h.log.Error("hand out messages", "err", err)
	}
	panic(http.ErrAbortHandler)
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
	return s.out.Write(&event)
}
