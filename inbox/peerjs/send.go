package peerjs

import (
	"context"
	"errors"
	"net/http"
	"time"
	"unicode/utf8"

	"inbox/inbox"
	"inbox/inbox/quota"
	"inbox/internal/websocket"
)

const (
	// maxQueues bounds the absent ids for which frames of one connection wait, maxQueueFrames and
	// maxQueueBytes those of each; the last one of each can exceed the latter.
	maxQueues, maxQueueFrames, maxQueueBytes = 16, 64, 256 << 10
	// putRetry is how soon a mailbox that is full, or a store that is unavailable, is tried again.
	putRetry = 250 * time.Millisecond
)

// queue has the frames for an id that is not claimed, or whose mailbox is full.
type queue struct {
	bodies  [][]byte
	bytes   int
	held    charge
	dropped bool // a frame, which the client was told
}

// queues are those of a connection, by their ids.
type queues struct {
	of     map[string]*queue
	full   *queue // nil if none is full
	ctx    context.Context
	cancel context.CancelFunc
}

func (q *queue) isFull() bool { return len(q.bodies) >= maxQueueFrames || q.bytes >= maxQueueBytes }

// Message handles a frame. Junk does not matter.
func (s *session) Message(kind websocket.Kind, payload []byte) {
	f := frame{}
	if kind == websocket.Text || utf8.Valid(payload) {
		f = parseFrame(payload)
	}
	s.h.frames[f.kind].Add(1)
	switch {
	case s.isOver(), f.kind == other, f.kind == heartbeat:
	case f.dst != "":
		s.send(f)
	case f.kind == leave:
		s.left = true
		s.conn.Close(websocket.NormalClosure, "")
	}
}

// send leaves a frame in the mailbox of its recipient, with the id of the sender.
func (s *session) send(f frame) {
	if len(f.dst) > maxIDBytes || !isPlain(f.dst) || !s.canSend(f.dst) { // no such id exists, for the client
		s.expire(f)
		return
	}
	body := appendFrame(make([]byte, 0, len(f.payload)+len(f.dstText)+len(s.src)+64), f.kind, s.src, f.dstText, f.payload)
	if f.kind.waits() && s.enqueue(f, body, false) {
		return
	}
	_, err := s.h.Store.Put(s.h.ctx, mailbox(f.dst), s.message(body), 0)
	switch {
	case err == nil, !f.kind.waits(), errors.Is(err, inbox.ErrStopping):
	case !s.enqueue(f, body, true): // too many absent ids
		s.miss(s.r)
		s.expire(f)
	}
}

// miss charges the client for a recipient that is absent.
func (s *session) miss(r *http.Request) {
	s.h.Guard.Record(r, inbox.UnknownRecipient, "")
	s.missed.Store(true)
}

func (s *session) message(body []byte) inbox.Message {
	return inbox.Message{From: s.id, Body: body, Payer: s.payer}
}

// expire tells the client that a peer is absent.
func (s *session) expire(f frame) {
	if f.kind.waits() {
		s.writeExpire(s.conn, f.dst)
	}
}

func (s *session) writeExpire(conn *websocket.Conn, dst string) {
	if conn != nil {
		s.h.answers[expired].Add(1)
		_ = conn.Write(websocket.Text, appendFrame(nil, expire, string(quote(dst)), []byte(s.src), nil)) // an error ends the connection
	}
}

// enqueue appends a frame to the queue of its recipient. Without one, it makes one if create is
// set. It reports whether the frame needs nothing else. When a queue is full, Allow reads no more.
func (s *session) enqueue(f frame, body []byte, create bool) bool {
	s.mu.Lock()
	var q *queue
	if s.queues != nil {
		q = s.queues.of[f.dst]
	}
	isNew, drops := q == nil && create, false
	switch {
	case isNew:
		q = s.newQueueLocked(f.dst, body)
	case q != nil && !q.dropped:
		drops = !s.appendLocked(q, body, 0)
		q.dropped = drops
	}
	if q != nil && q.isFull() {
		s.queues.full = q
	}
	s.mu.Unlock()
	switch {
	case q != nil && isNew:
		go s.sendQueue(s.queues.ctx, s.r, f.dst, body, q)
	case drops:
		s.expire(f)
	}
	return q != nil
}

// isBlocked reports whether a queue is full.
func (s *session) isBlocked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queues == nil {
		return false
	}
	if full := s.queues.full; full != nil && !full.isFull() {
		s.queues.full = nil
	}
	return s.queues.full != nil
}

// newQueueLocked makes a queue, nil if there are too many.
func (s *session) newQueueLocked(dst string, body []byte) *queue {
	q := new(queue)
	if s.queues == nil {
		s.queues = &queues{of: map[string]*queue{}}
		s.queues.ctx, s.queues.cancel = context.WithCancel(s.h.ctx)
	}
	if len(s.queues.of) >= maxQueues || !s.appendLocked(q, body, 1) {
		return nil
	}
	s.queues.of[dst] = q
	return q
}

// appendLocked appends a frame to a queue, and counts the queue if it is new. It fails if the payer
// has no room.
func (s *session) appendLocked(q *queue, body []byte, queues int) bool {
	if !s.h.waiting.take(&q.held, s.payer, quota.Usage{Inboxes: queues, Bytes: int64(len(body))}) {
		return false
	}
	q.bodies = append(q.bodies, body)
	q.bytes += len(body)
	return true
}

// sendQueue sends the frames of a queue in their order, and waits for their recipient.
func (s *session) sendQueue(ctx context.Context, r *http.Request, dst string, body []byte, q *queue) {
	for ; body != nil; body = s.nextOf(dst, q) {
		err := s.h.putPending(ctx, mailbox(dst), s.message(body))
		if err == nil {
			continue
		}
		if errors.Is(err, inbox.ErrNoInbox) {
			s.miss(r)
		}
		s.mu.Lock()
		conn, isTold := s.conn, q.dropped
		s.dropLocked(dst, q)
		s.mu.Unlock()
		if !isTold && ctx.Err() == nil {
			s.writeExpire(conn, dst)
		}
		return
	}
}

// nextOf removes the first frame of a queue, which was sent, and returns the next one. Without one,
// it removes the queue.
func (s *session) nextOf(dst string, q *queue) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(q.bodies[0])
	q.bodies[0] = nil
	if q.bodies = q.bodies[1:]; len(q.bodies) == 0 {
		s.dropLocked(dst, q)
		return nil
	}
	q.bytes -= n
	s.h.waiting.give(&q.held, quota.Usage{Bytes: int64(n)})
	return q.bodies[0]
}

func (s *session) dropLocked(dst string, q *queue) {
	delete(s.queues.of, dst)
	q.bodies, q.bytes = nil, 0
	s.h.waiting.giveAll(&q.held)
}

// putPending waits until a recipient is there and has room.
func (h *Handler) putPending(ctx context.Context, to string, m inbox.Message) error {
	by := time.Now().Add(h.timing.absent)
	for {
		_, err := h.Store.Put(ctx, to, m, max(0, time.Until(by)))
		if !isPassing(err) || !time.Now().Add(putRetry).Before(by) {
			return err
		}
		select {
		case <-time.After(putRetry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// isPassing reports whether a Put can succeed a moment later.
func isPassing(err error) bool {
	for _, passing := range [...]error{inbox.ErrInboxFull, inbox.ErrStoreFull, inbox.ErrPayerFull, inbox.ErrStoreUnavailable} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}
