package inbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"inbox/inbox/internal/mediatype"
	"inbox/inbox/internal/names"
	"inbox/inbox/internal/query"
	"inbox/inbox/internal/wire"
	"inbox/inbox/quota"
	"inbox/internal/problem"
	"inbox/internal/websocket"
)

// Message handles a frame of the client.
func (s *webSocket) Message(_ websocket.Kind, payload []byte) {
	if s.over {
		return
	}
	f, err := wire.Parse(payload)
	switch {
	case err != nil:
		s.close(websocket.PolicyViolation, err.Error())
	case (s.rc == nil) != (f.Verb == wire.Hello):
		s.close(websocket.PolicyViolation, "the first frame is hello, and no other one")
	case f.Verb == wire.Hello:
		s.hello(f)
	case f.Verb == wire.Ping:
		_ = s.write([]byte(wire.Pong)) // an error ends the connection
	case f.Verb == wire.Ack && f.Number <= s.lastAck:
		s.close(websocket.PolicyViolation, "the ID of an ack is above that of the last one")
	case f.Verb == wire.Ack:
		s.lastAck = f.Number
		s.acknowledge()
	case f.Number <= s.lastRef:
		s.close(websocket.PolicyViolation, "the REF of a send is above that of the last one")
	default:
		s.lastRef = f.Number
		s.send(f)
	}
	s.schedule()
}

// send stores a message. One that waits for its recipient delays no other. The others are stored
// in the order of their frames.
func (s *webSocket) send(f wire.Frame) {
	m, wait, err := s.parseMessage(&f)
	switch {
	case err != nil:
	case wait > 0:
		err = s.sendOrWait(f, m, wait)
	default:
		var ended func(error) error
		if ended, err = s.h.admitSend(s.r, f.To); err == nil {
			err = ended(s.h.putPending(s.r, f.To, m, 0))
		}
		if err == nil {
			s.stored(f.Number)
		}
	}
	if err != nil {
		s.refuse(f.Number, err)
	}
}

// parseMessage returns the message of a send. It replaces the recipient by the name that it stands
// for.
func (s *webSocket) parseMessage(f *wire.Frame) (m Message, wait time.Duration, err error) {
	q, err := query.Parse(f.Query, s.h.pollTimeout)
	if err != nil {
		return m, 0, err
	}
	if f.To, err = names.Parse(f.To); err != nil {
		return m, 0, problem.BadRequest("to", err)
	}
	kind, known := mediatype.Long(f.Type)
	if !known {
		return m, 0, problem.BadRequest("the type", errors.New("must be json, sdp, frag, text or bytes"))
	}
	if int64(len(f.Body)) > s.h.maxBytes {
		return m, 0, &http.MaxBytesError{Limit: s.h.maxBytes}
	}
	m = Message{From: s.rc.name, ContentType: kind, Body: bytes.Clone(f.Body), Payer: s.h.payer(s.r)}
	return m, q.Wait, nil
}

// stored notes that a message is stored, which the client learns soon.
func (s *webSocket) stored(ref uint64) {
	s.okRef = ref
	if s.okAt == 0 {
		s.okAt = s.now() + okDelay
	}
}

// sendOK answers the sends up to the last one, if that was not done.
func (s *webSocket) sendOK() {
	if s.okAt == 0 {
		return
	}
	s.okAt = 0
	_ = s.write(wire.AppendOK(nil, s.okRef)) // an error ends the connection
}

// sendOrWait stores a message at once if its recipient exists. Otherwise it waits in a goroutine,
// which counts as a request that waits.
func (s *webSocket) sendOrWait(f wire.Frame, m Message, wait time.Duration) error {
	if s.pending.Load() >= maxPendingSends {
		return &quota.Error{Limit: "pending-sends", Quota: maxPendingSends}
	}
	if s.pendingCtx == nil {
		s.pendingCtx, s.cancelPendingSend = context.WithCancel(s.r.Context())
	}
	r := s.r.WithContext(s.pendingCtx)
	ended, err := s.h.admitSend(r, f.To)
	if err != nil {
		return err
	}
	if err = s.h.putPending(r, f.To, m, 0); !errors.Is(err, ErrNoInbox) {
		s.answerPending(r, f.Number, ended(err))
		return nil
	}
	leave, err := s.h.enter(s.r)
	if err != nil {
		_ = ended(ErrNoInbox) // the refusal tells that the name is not claimed
		return err
	}
	s.pending.Add(1)
	s.unanswered.Add(1)
	go func() {
		defer leave()
		err := ended(s.h.putPending(r, f.To, m, wait))
		s.pending.Add(-1)
		s.answerPending(r, f.Number, err)
		if s.unanswered.Add(-1); s.h.stopping.Err() != nil {
			s.wake()
		}
	}()
	return nil
}

// answerPending answers one send.
func (s *webSocket) answerPending(r *http.Request, ref uint64, err error) {
	switch {
	case r.Context().Err() != nil: // the connection ends
	case err == nil:
		_ = s.write(wire.AppendOK(nil, ref)) // an error ends the connection
	default:
		s.refuse(ref, err)
	}
}

// acknowledge discards the messages through lastAck. It is tried again if the store is
// unavailable; the end of the claim is that of the receiver.
func (s *webSocket) acknowledge() {
	s.ackAt = 0
	switch err := s.rc.acknowledge(s.r.Context(), s.lastAck); {
	case errors.Is(err, errNotWritten):
		s.close(websocket.PolicyViolation, "the ID of an ack is not above that of the last msg")
	case errors.Is(err, ErrStoreUnavailable):
		s.ackAt = s.now() + retryEvery
	case err != nil && endReason(err) == "":
		s.h.log.Error("acknowledge messages", "err", err)
	}
}

// writeMessage writes a message, which is text if it can be. A large body counts against the budget
// of in-flight bodies, for which it waits.
func (s *webSocket) writeMessage(m Message) error {
	if s.rc.plain && s.rc.window == 0 && !s.h.alive(s.r) {
		return errGone
	}
	inFlight, err := s.h.reserveBody(s.r, m.Body)
	if err == http.ErrAbortHandler {
		return errGone
	}
	if err != nil {
		return err
	}
	defer inFlight.Release()
	short, kind := mediatype.Short(m.ContentType), websocket.Text
	if short == mediatype.Bytes || !utf8.Valid(m.Body) {
		kind = websocket.Binary
	}
	head := wire.AppendMessage(make([]byte, 0, 128), m.ID, m.From, short)
	hasRoom := true
	if s.rc.early {
		hasRoom, err = s.conn.WriteEarly(kind, head, m.Body)
	} else {
		err = s.conn.Write(kind, head, m.Body)
	}
	switch {
	case err != nil:
		return errGone
	case !hasRoom:
		return errMore
	}
	return nil
}

// refuse answers a send with a problem document.
func (s *webSocket) refuse(ref uint64, err error) {
	doc := s.problemDocument(err)
	_ = s.write(wire.AppendFail(nil, ref), doc.Body) // an error ends the connection
}

// refuseHello answers a hello with a problem document, and ends the connection.
func (s *webSocket) refuseHello(err error) {
	if endReason(err) != "" {
		s.end(err)
		return
	}
	doc := s.problemDocument(err)
	_ = s.write(wire.AppendFail(nil, 0), doc.Body) // without it, the close frame tells enough
	code := websocket.PolicyViolation
	if doc.RetryAfter() != "" {
		code = websocket.TryAgainLater
	}
	s.close(code, http.StatusText(doc.Status))
}

// problemDocument returns the response that refuse writes to a request.
func (s *webSocket) problemDocument(err error) *wire.Document {
	d := &wire.Document{}
	var refuser interface{ Refuse(http.ResponseWriter) }
	if !errors.As(err, &refuser) && problemOf(s.r, err) == nil {
		err = fmt.Errorf("unexpected end: %w", internalProblem)
	}
	s.h.refuse(d, s.r, err)
	if seconds := d.RetryAfter(); seconds != "" {
		d.Body = fmt.Appendf(bytes.TrimSuffix(d.Body, []byte("}")), `,"retryAfter":%s}`, seconds)
	}
	return d
}
