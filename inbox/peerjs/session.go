package peerjs

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"inbox/inbox"
	"inbox/inbox/quota"
	"inbox/internal/websocket"
)

const (
	// retryEvery is how soon a step of an unavailable store is tried again.
	retryEvery = time.Second
	// freeFrameInterval is how often a heartbeat is free, and freeFrames how many are after a pause.
	freeFrameInterval = time.Second
	freeFrames        = 4
	// A ping acknowledges up to pingEvery messages, and follows the first of them after pingDelay:
	// with its pong, it costs as much as a message.
	pingEvery = 16
	pingDelay = 20 * time.Millisecond
)

// session is a client with an id. It outlives its connection for as long as the id is kept. The
// methods of [websocket.Handler] run one at a time: in the goroutine of the connection, except
// WokenEarly.
type session struct {
	h     *Handler
	id    string // the end of the name
	name  string // of the mailbox
	src   string // the id as JSON
	key   string // an invitation or a guest pass; empty if the server is open
	token inbox.Key
	payer inbox.Payer
	// receiver is what the mailbox knows of id and token, if nodes share the store.
	receiver uint64

	// Set before the session is ready. The first two change, with mu, when the claim has ended.

	claim     inbox.Claim
	stopWatch func()
	r         *http.Request // detached
	leave     func()

	// Of the methods of websocket.Handler. Times are as those of Handler.now; zero is none.

	pingID    uint64        // that the outstanding ping has; 0: none
	pingedAt  time.Duration // when it was sent
	pingDue   time.Duration // when the next one is
	heardAt   time.Duration // when a frame arrived
	retryAt   time.Duration // when a step of the store is tried again
	freeFrame time.Duration // when the free frames are used up again
	buffered  charge        // an incomplete message
	discard   bool          // acked has to be discarded
	left      bool          // the client has sent a LEAVE without a recipient
	early     bool          // WokenEarly runs

	missed atomic.Bool // a recipient was absent since the guard was last asked

	attending sync.Mutex // of what other nodes want, while the line is lost
	attended  uint64     // the last of their messages

	mu             sync.Mutex
	detached       bool            // another session has the id, or none
	hasLeft        bool            // the connection ended by a close frame
	news           bool            // the mailbox can have messages that were not written
	ready          chan struct{}   // closed when the session has a connection, or failed; then nil
	conn           *websocket.Conn // nil without one
	lost           time.Time       // when the connection ended
	grace          *time.Timer     // ends it
	acked, written uint64          // IDs of messages
	end            error           // of the claim
	probe          *probe          // nil if none is outstanding
	granted        *grant          // the newcomer that gets the id, if any
	throttledAt    time.Duration   // when reading was last delayed
	queues         *queues         // nil before the first absent id
}

// probe is a ping that a newcomer waits for.
type probe struct {
	payload [9]byte
	done    chan struct{} // closed with the answer
	alive   bool
}

// awaitReady waits until the session can be challenged. It returns errAgain if it has not got the
// id.
func (s *session) awaitReady(ctx context.Context) error {
	s.mu.Lock()
	ready := s.ready
	s.mu.Unlock()
	if ready != nil {
		select {
		case <-ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !s.h.isHolder(s) {
		return errAgain
	}
	return nil
}

func (s *session) becomeReady() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready != nil {
		close(s.ready)
		s.ready = nil
	}
}

// start opens the session on a connection.
func (s *session) start(conn *websocket.Conn, r *http.Request, leave func()) {
	s.r, s.leave = r, leave
	_ = conn.Write(websocket.Text, openFrame) // an error ends the connection
	s.mu.Lock()
	s.conn, s.news = conn, true
	s.mu.Unlock()
	s.becomeReady()
	conn.Start(s)
	conn.Wake() // for what arrived before
}

// owner returns who has the id.
func (s *session) owner() ownership {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ownership{token: s.token, payer: s.payer.Client, lost: s.lost, left: s.hasLeft}
}

// progress returns the IDs of the last messages that were acknowledged and written.
func (s *session) progress() (acked, written uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked, s.written
}

// inherit takes the claim of a session, which it replaces.
func (s *session) inherit(old *session) {
	old.detach()
	old.mu.Lock()
	defer old.mu.Unlock()
	s.claim, s.acked, s.written, s.discard = old.claim, old.acked, old.acked, old.acked > 0
}

// detach takes the id from the session, and ends its connection.
func (s *session) detach() {
	s.mu.Lock()
	s.detached = true
	conn := s.conn
	if s.grace != nil {
		s.grace.Stop()
	}
	s.mu.Unlock()
	s.leaveClaim()
	if conn != nil {
		go conn.Close(websocket.NormalClosure, "another connection has the id") // the line can be dead
	}
}

func (s *session) leaveClaim() {
	s.mu.Lock()
	stop := s.stopWatch
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// setClaim sets the claim when the session has begun.
func (s *session) setClaim(c inbox.Claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claim = c
}

// setWatch sets what ends the watch, which it is if the session was detached meanwhile.
func (s *session) setWatch(stop func()) {
	s.mu.Lock()
	s.stopWatch = stop
	isOver := s.detached
	s.mu.Unlock()
	if isOver {
		stop()
	}
}

// setLost notes that the connection has ended, and whether by a close frame. The timer ends the time
// for which the id is kept.
func (s *session) setLost(grace *time.Timer, left bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost, s.grace, s.hasLeft = time.Now(), grace, left
}

// isOver reports whether the session no longer handles messages.
func (s *session) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.detached || s.h.stopping.Load()
}

// notify is called by the store for a claim.
func (s *session) notify(epoch uint64, end error) {
	s.mu.Lock()
	if epoch != s.claim.Epoch { // an earlier claim
		s.mu.Unlock()
		return
	}
	isKnown := s.news && end == nil
	s.news = true
	if end != nil && s.end == nil {
		s.end = end
	}
	conn, lost := s.conn, !s.lost.IsZero()
	s.mu.Unlock()
	switch {
	case conn != nil && isKnown: // a pong, or a time, lets proceed look into the mailbox
	case conn != nil && !s.h.Shared:
		conn.TryWake()
	case conn != nil:
		conn.Wake() // the store can take a while
	case lost && (end != nil || s.h.Shared):
		go s.h.attendLost(s)
	}
}

// takeNews reports whether the mailbox can have messages that were not written, and forgets it.
func (s *session) takeNews() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.news
	s.news = false
	return news
}

// postpone makes the next call of proceed look into the mailbox.
func (s *session) postpone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.news = true
}

// Woken does what is due.
func (s *session) Woken() {
	if s.isOver() {
		return
	}
	if end := s.ended(); end != nil {
		s.lostClaim(end)
		return
	}
	s.retryAt = 0
	s.proceed()
}

// WokenEarly hands out messages in the goroutine of their sender, if that takes no time.
func (s *session) WokenEarly() bool {
	if s.isOver() || s.ended() != nil || s.discard || s.retryAt != 0 {
		return false
	}
	s.early = true
	defer func() { s.early = false }()
	return (!s.takeNews() || s.handOut()) && s.schedule()
}

// ended returns why the claim has ended, or nil.
func (s *session) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// proceed acknowledges, hands out messages, and looks when it is needed again.
func (s *session) proceed() {
	if s.discard {
		s.discardAcked()
	}
	if s.takeNews() {
		s.handOut()
	} else {
		s.ping()
	}
	if !s.schedule() {
		s.conn.Close(websocket.GoingAway, "no answer to pings")
	}
}

// schedule lets Woken be called when something is due. It reports false if a ping was not answered
// in time.
func (s *session) schedule() bool {
	next := s.retryAt
	if s.pingDue != 0 && (next == 0 || s.pingDue < next) {
		next = s.pingDue
	}
	if s.pingID != 0 {
		due := max(s.pingedAt, s.heardAt) + s.h.timing.ack
		if s.h.now() >= due {
			return false
		}
		if next == 0 || due < next {
			next = due
		}
	}
	if next == 0 {
		s.conn.WakeAt(time.Time{})
	} else {
		s.conn.WakeAt(s.h.began.Add(next))
	}
	return true
}

// lostClaim ends a connection whose id another node has. An id that ended otherwise, as in a store
// that was emptied, is claimed again.
func (s *session) lostClaim(reason error) {
	if errors.Is(reason, inbox.ErrClaimEnded) {
		if s.endIfRefused() {
			return
		}
		switch reason = s.reclaim(); {
		case reason == nil:
			s.proceed()
			return
		case errors.Is(reason, inbox.ErrStoreUnavailable):
			s.conn.WakeAt(time.Now().Add(retryEvery))
			return
		}
	}
	s.abandon()
	code, text := websocket.NormalClosure, "another connection has the id"
	if !errors.Is(reason, inbox.ErrSuperseded) {
		code, text = websocket.GoingAway, "the id has ended"
	}
	s.conn.Close(code, text)
}

// abandon gives up the id of a claim that has ended, and what it has sent to absent ids: the
// connection can take seconds to close.
func (s *session) abandon() {
	s.h.remove(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detached = true
	if s.queues != nil {
		s.queues.cancel()
	}
}

// reclaim claims the mailbox once more.
func (s *session) reclaim() error {
	s.leaveClaim()
	c, err := s.h.Store.Open(s.h.ctx, s.name, s.h.keyOf(s.name), &s.payer)
	switch {
	case err != nil:
		return err
	case !c.Created: // another node was first
		return inbox.ErrSuperseded
	}
	s.mu.Lock()
	isOver := s.detached
	s.claim, s.end, s.acked, s.written, s.news = c, nil, 0, 0, true
	s.mu.Unlock()
	s.pingID, s.pingDue, s.discard, s.retryAt = 0, 0, false, 0
	if isOver { // the successor finds the claim
		return inbox.ErrSuperseded
	}
	if err = s.h.record(s.h.ctx, s, true); err == nil {
		s.holdClaim()
		err = s.h.watch(s)
	}
	return err
}

// handOut writes the messages that wait, and a ping that acknowledges them. It reports false if
// WokenEarly cannot do that.
func (s *session) handOut() bool {
	for !s.isOver() {
		acked, written := s.progress()
		if written-acked >= inbox.Window {
			s.postpone()
			break
		}
		m, err := s.h.Store.Next(s.h.ctx, s.claim, written)
		if err == nil {
			err = s.take(m)
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, inbox.ErrEmpty):
		case s.early:
			s.postpone()
			return false
		case errors.Is(err, inbox.ErrStoreUnavailable), errors.Is(err, errNoMemory):
			s.postpone()
			s.retryAt = s.h.now() + retryEvery
		case errors.Is(err, inbox.ErrClaimEnded):
			s.lostClaim(err)
			return true
		default: // the connection or the server ends
			return true
		}
		break
	}
	s.ping()
	return true
}

var (
	errNoMemory = errors.New("no memory for a large frame")
	errLater    = errors.New("this can take a while")
)

// take writes a message, unless it is one of another node.
func (s *session) take(m inbox.Message) error {
	if s.early && (isControl(m) || len(m.Body) > freeBytes) {
		return errLater
	}
	if isControl(m) {
		s.handleControl(m)
		s.advance(m.ID, true)
		return nil
	}
	var held charge
	if n := int64(len(m.Body)); n > freeBytes {
		if !s.h.waiting.take(&held, s.payer, quota.Usage{Bytes: n}) {
			return errNoMemory
		}
		defer s.h.waiting.giveAll(&held)
	}
	s.advance(m.ID, false)
	if acked, _ := s.progress(); s.pingID == 0 && m.ID-acked >= pingEvery {
		s.expectPong(m.ID)
		return s.write(m.Body, binary.BigEndian.AppendUint64(nil, m.ID))
	}
	return s.write(m.Body, nil)
}

// write writes a frame and a ping, unless one of them is nil.
func (s *session) write(text, ping []byte) error {
	if !s.early {
		return s.conn.WriteAndPing(text, ping)
	}
	hasRoom, err := s.conn.WriteAndPingEarly(text, ping)
	if err == nil && !hasRoom {
		err = errLater
	}
	return err
}

// expectPong notes that a ping with an ID is being sent.
func (s *session) expectPong(id uint64) { s.pingID, s.pingedAt, s.pingDue = id, s.h.now(), 0 }

// advance moves the cursor to a message. A control message needs no acknowledgement.
func (s *session) advance(id uint64, control bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written == s.acked {
		s.acked = id - 1 // what precedes it was discarded before
		if control {
			s.acked, s.discard = id, true
		}
	}
	s.written = id
}

// ping asks for an acknowledgement of what was written, when it is due. One ping is outstanding at a
// time.
func (s *session) ping() {
	acked, written := s.progress()
	if s.pingID != 0 || written == acked {
		return
	}
	if t := s.h.now(); written-acked < pingEvery && (s.pingDue == 0 || t < s.pingDue) {
		if s.pingDue == 0 {
			s.pingDue = t + pingDelay
		}
		return
	}
	s.expectPong(written)
	_ = s.write(nil, binary.BigEndian.AppendUint64(nil, written)) // an error ends the connection
}

// Pong acknowledges the messages through the ID of the outstanding ping: they have arrived in the
// browser, even if the page has not seen them yet.
func (s *session) Pong(payload []byte) {
	switch {
	case s.isAck(payload):
		id := s.pingID
		s.pingID = 0
		s.mu.Lock()
		s.acked = id
		s.mu.Unlock()
		if s.discard = true; !s.isOver() {
			s.proceed()
		}
	case s.isProbe(payload):
		s.endProbe(true)
	}
}

func (s *session) isAck(payload []byte) bool {
	return s.pingID != 0 && len(payload) == 8 && binary.BigEndian.Uint64(payload) == s.pingID
}

// discardAcked removes the messages that were acknowledged.
func (s *session) discardAcked() {
	acked, _ := s.progress()
	switch err := s.h.Store.Discard(s.h.ctx, s.claim, acked); {
	case err == nil, errors.Is(err, inbox.ErrClaimEnded): // the watch reports it, too
		s.discard = false
	case errors.Is(err, inbox.ErrStoreUnavailable):
		s.retryAt = s.h.now() + retryEvery
	}
}

// Allow takes a token for a frame, unless it answers one of the server's or is a heartbeat. While
// a queue is full, or the client has sent to too many ids that are not claimed, nothing is read.
func (s *session) Allow(kind websocket.Kind, payload []byte) (wait time.Duration, again bool) {
	s.heardAt = s.h.now()
	switch kind {
	case websocket.Pong:
		if s.isAck(payload) || s.isProbe(payload) || s.takeFree() {
			return 0, false
		}
	case websocket.Ping, websocket.Close:
		if s.takeFree() {
			return 0, false
		}
	default:
		if isHeartbeat(payload) && s.takeFree() {
			return 0, false
		}
		if s.isBlocked() {
			return s.throttled(putRetry, true)
		}
		if s.missed.Load() && s.h.Guard.Allow(s.r, inbox.UnknownRecipient, "") != nil {
			if !s.h.Alive(s.r) { // what it has sent would be read for minutes
				s.conn.Close(websocket.TryAgainLater, "too many absent ids")
			}
			return s.throttled(retryEvery, true)
		}
		s.missed.Store(false)
	}
	return s.throttled(s.h.Throttle(s.r))
}

// takeFree takes one of the frames that are free.
func (s *session) takeFree() bool {
	if s.freeFrame >= s.heardAt+freeFrames*freeFrameInterval {
		return false
	}
	s.freeFrame = max(s.freeFrame, s.heardAt) + freeFrameInterval
	return true
}

// throttled notes that reading is delayed, so that pongs can be late.
func (s *session) throttled(wait time.Duration, again bool) (time.Duration, bool) {
	if wait > 0 {
		s.mu.Lock()
		s.throttledAt = s.heardAt
		s.mu.Unlock()
	}
	return wait, again
}

// Buffer reserves memory for an incomplete message.
func (s *session) Buffer(more int) bool {
	if more < 0 {
		s.h.waiting.give(&s.buffered, quota.Usage{Bytes: int64(-more)})
		return true
	}
	return s.h.waiting.take(&s.buffered, s.payer, quota.Usage{Bytes: int64(more)})
}

// Closed frees the id after a close frame of the client, and keeps it for the client otherwise.
func (s *session) Closed(err error) {
	s.mu.Lock()
	s.conn = nil
	if s.queues != nil {
		s.queues.cancel()
	}
	s.mu.Unlock()
	s.endProbe(false)
	s.leave()
	s.r = nil
	if s.left || isLeaving(err) {
		s.h.vacate(s)
	} else {
		s.h.lose(s)
	}
}

// isLeaving reports whether the client has ended the connection on purpose: without a code, or
// because its page is closed.
func isLeaving(err error) bool {
	var closed *websocket.CloseError
	if !errors.As(err, &closed) || !closed.Remote {
		return false
	}
	return closed.Code == websocket.NormalClosure || closed.Code == websocket.GoingAway || closed.Code == websocket.NoStatus
}

// refused is the handler of a connection that is being closed.
type refused struct{ leave func() }

func (refused) Allow(websocket.Kind, []byte) (time.Duration, bool) { return 0, false }
func (refused) Message(websocket.Kind, []byte)                     {}
func (refused) Pong([]byte)                                        {}
func (refused) Woken()                                             {}
func (r refused) Closed(error)                                     { r.leave() }
