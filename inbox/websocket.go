package inbox

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"inbox/inbox/internal/body"
	"inbox/inbox/internal/query"
	"inbox/inbox/internal/wire"
	"inbox/internal/problem"
	"inbox/internal/websocket"
)

const (
	// okDelay is how late the answer to a send can be, so that one answers several. A client
	// gets it within 20 ms.
	okDelay = 15 * time.Millisecond
	// readTime is how long a WebSocket is read between two writes of messages to a slow client.
	readTime = time.Millisecond
	// maxPendingSends bounds the sends of one WebSocket that wait for their recipients.
	maxPendingSends = 16
	// defaultWriteTimeout is that of a handler without one.
	defaultWriteTimeout = 10 * time.Second
	// closeTimeout bounds the wait for the close frame of a client.
	closeTimeout = 5 * time.Second
	// freeFrameInterval is how often a frame that acknowledges is free, and freeFrames how many
	// are after a pause.
	freeFrameInterval = time.Second / 2
	freeFrames        = 4
)

// Close codes of RFC 6455 for applications.
const codeSuperseded = 4001

// errGone is the error of a write to a WebSocket that ends.
var errGone = errors.New("the WebSocket ends")

// webSocketConfig returns what the WebSockets of the handler have in common.
func (h *Handler) webSocketConfig(cfg Config) websocket.Config {
	return websocket.Config{
		Protocols: []string{wire.Protocol}, MaxMessageBytes: wire.MaxHelloBytes,
		MessageTimeout: cfg.BodyTimeout, WriteTimeout: cmp.Or(cfg.WriteTimeout, defaultWriteTimeout), CloseTimeout: closeTimeout,
		PingInterval: cmp.Or(cfg.Heartbeat, DefaultHeartbeat), OnDelay: cfg.OnFrameDelay, Conns: &h.sockets,
	}
}

// WaitWebSockets waits, after EndPolls, until all WebSockets are closed. When ctx is done it aborts
// those that are open and returns the error of ctx. http.Server.Shutdown does not wait for them.
func (h *Handler) WaitWebSockets(ctx context.Context) error { return h.sockets.Wait(ctx) }

// upgrade serves a WebSocket: a receiver that can send. Its client can have credentials in the
// request, unless a page of another site made it: a browser adds those that it remembers.
func (h *Handler) upgrade(w http.ResponseWriter, r *http.Request) error {
	if err := websocket.Check(r); err != nil {
		return refuseHandshake(w, err)
	}
	if h.stopping.Err() != nil {
		return ErrStopping
	}
	leave, err := h.enter(r)
	if err != nil {
		return err
	}
	s, started := &webSocket{h: h, leave: leave}, false
	defer func() { // also after a panic
		if !started {
			s.release()
			leave()
		}
	}()
	if len(r.Header["Authorization"]) > 0 && h.origins.IsOwn(r) {
		if err := s.openRequest(r); err != nil {
			return err
		}
	}
	if s.conn, err = websocket.Upgrade(w, r, &h.socketConfig); err != nil {
		return nil // the connection is closed
	}
	s.r, started = Detach(r, h.clientFields), true
	s.r.URL = &h.socketURL
	if h.access != nil {
		keepToken(s.r, tokenOf(r))
	}
	s.start()
	return nil
}

// refuseHandshake returns the problem of a request that is no valid opening handshake.
func refuseHandshake(w http.ResponseWriter, err error) error {
	var invalid *websocket.HandshakeError
	if !errors.As(err, &invalid) {
		return err
	}
	invalid.SetHeader(w.Header())
	return invalid.Problem()
}

// webSocket is a receiver and a sender on a WebSocket. The methods of websocket.Handler run one at
// a time, and call all others but answerPending.
type webSocket struct {
	h     *Handler
	r     *http.Request // the detached request
	conn  *websocket.Conn
	leave func()      // of Config.Enter
	rc    *receiver   // nil before the hello
	due   atomic.Bool // the receiver has stopped waiting
	over  bool        // nothing more is written

	// Times are as those of now; zero is none.
	lastRef, lastAck  uint64
	okRef             uint64        // that of a stored message
	okAt              time.Duration // when okRef is due, until it is sent
	ackAt             time.Duration // when lastAck is tried again, if it was refused
	moreAt            time.Duration // when messages are handed out again, after the client was read
	helloBy           time.Duration
	freeFrame         time.Duration // when the free frames are used up again
	incomplete        *body.Reservation
	pending           atomic.Int32    // sends that wait for their recipients
	unanswered        atomic.Int32    // the same, until they are answered
	pendingCtx        context.Context // nil before the first pending send
	cancelPendingSend context.CancelFunc
}

// now returns the time since the handler was made, which is never zero.
func (s *webSocket) now() time.Duration { return time.Since(s.h.began) | 1 }

// start begins to serve the connection.
func (s *webSocket) start() {
	if s.rc != nil {
		s.begin()
	} else if s.h.helloTimeout > 0 {
		s.helloBy = s.now() + s.h.helloTimeout
	}
	s.schedule()
	s.conn.Start(s)
	if s.h.stopping.Err() != nil {
		s.conn.Wake() // EndPolls can have come before the connection was tracked
	}
}

// openRequest opens the mailbox with the credentials of the request. Its parameters are those of a
// stream.
func (s *webSocket) openRequest(r *http.Request) error {
	name, key, err := s.h.credentials(r)
	if err != nil {
		return err
	}
	return s.open(r, name, key, r.URL.RawQuery)
}

// open opens the mailbox. An error refuses the client.
func (s *webSocket) open(r *http.Request, name string, key Key, params string) error {
	q, reason := query.Parse(params, s.h.pollTimeout)
	if reason != nil {
		if _, err := s.h.open(r, name, key); err != nil {
			return err // with a wrong password, no other reason is given
		}
		return reason
	}
	rc := s.h.newReceiver(WebSocket, name, q)
	defer func() { // also after a panic
		if s.rc == nil {
			rc.leave()
		}
	}()
	if err := s.h.openReceiver(r, key, q.After, rc); err != nil {
		return err
	}
	s.rc = rc
	return nil
}

// begin welcomes the client and begins to hand out messages.
func (s *webSocket) begin() {
	if !s.h.shared && (!s.rc.plain || s.rc.window > 0) { // what has no window is written with more care
		s.rc.tryWake = s.tryWake
	}
	if err := s.rc.watch(s.wake); err != nil {
		s.end(err)
		return
	}
	s.helloBy = 0
	s.conn.SetMaxMessageBytes(int(s.h.maxBytes) + wire.MaxHeadBytes)
	ping := (s.h.socketConfig.PingInterval + time.Second - 1) / time.Second
	_ = s.write(wire.AppendWelcome(nil, s.rc.claim.Epoch, s.h.maxBytes, s.h.window, int(ping)))
	s.wake()
}

// wake lets Woken look for messages. It is what the receiver calls.
func (s *webSocket) wake() {
	s.due.Store(true)
	s.conn.Wake()
}

// tryWake is wake for a message. The goroutine of its sender writes it, if that takes no time.
func (s *webSocket) tryWake() {
	s.due.Store(true)
	s.conn.TryWake()
}

// WokenEarly hands out messages in the goroutine of a sender. Woken does what it leaves.
func (s *webSocket) WokenEarly() bool {
	if s.over || s.moreAt != 0 || s.rc.opened != nil {
		return false
	}
	if !s.due.Swap(false) {
		return true // Woken was first
	}
	s.rc.early = true
	defer func() { s.rc.early = false }()
	err := s.rc.handOut(s.r.Context(), s.writeMessage)
	if err != nil { // Woken gets the same one
		s.due.Store(true)
	}
	return err == nil
}

// Woken does what is due: it hands out messages, and answers sends.
func (s *webSocket) Woken() {
	now := s.now()
	switch {
	case s.over:
		return
	case s.rc != nil:
		s.catchUp(now)
	case s.h.stopping.Err() != nil:
		s.end(ErrStopping)
	case isDue(s.helloBy, now):
		s.close(websocket.PolicyViolation, "hello was due")
	}
	s.schedule()
}

// isDue reports whether a time is set and has come.
func isDue(at, now time.Duration) bool { return at != 0 && now >= at }

func (s *webSocket) catchUp(now time.Duration) {
	if isDue(s.okAt, now) {
		s.sendOK()
	}
	if isDue(s.ackAt, now) {
		s.acknowledge()
	}
	if s.due.Swap(false) || isDue(s.moreAt, now) {
		s.handOut()
	}
}

// handOut hands out messages. Now and then the client is read, although there are more.
func (s *webSocket) handOut() {
	s.moreAt = 0
	switch err := s.rc.handOut(s.r.Context(), s.writeMessage); err {
	case nil:
	case errMore:
		s.moreAt = s.now() + readTime
	default:
		s.end(err)
	}
}

// schedule lets Woken be called when something is due.
func (s *webSocket) schedule() {
	next := time.Time{}
	for _, at := range [...]time.Duration{s.okAt, s.ackAt, s.moreAt, s.helloBy} {
		if t := s.h.began.Add(at); at != 0 && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	s.conn.WakeAt(next)
}

// end ends the connection for a reason of its receiver.
func (s *webSocket) end(err error) {
	if err == errGone {
		s.over = true // Closed follows
		return
	}
	if s.h.stopping.Err() != nil && errors.Is(err, ErrStopping) && s.unanswered.Load() > 0 {
		return // EndPolls has ended the waits; the last answer wakes the receiver
	}
	s.sendOK()
	reason, code := endReason(err), websocket.InternalError
	switch reason {
	case "":
		s.h.log.Error("hand out messages", "err", err)
	case reasonSuperseded:
		code = codeSuperseded
	case reasonStopping:
		code = websocket.GoingAway
	case reasonClaimEnded:
		code = websocket.NormalClosure
	}
	if reason != "" {
		_ = s.write(wire.AppendEnd(nil, reason)) // without it, the close frame has the reason
	}
	s.close(code, reason)
}

// close ends the connection with a close frame.
func (s *webSocket) close(code uint16, reason string) {
	s.over = true
	s.conn.Close(code, reason)
	s.release()
}

// release gives up what the connection has of the handler. A second call does nothing.
func (s *webSocket) release() {
	if s.rc != nil {
		s.rc.leave()
	}
	if s.cancelPendingSend != nil {
		s.cancelPendingSend()
	}
}

// Closed implements websocket.Handler.
func (s *webSocket) Closed(error) {
	s.over = true
	s.release()
	if s.incomplete != nil {
		s.incomplete.Release()
	}
	s.leave()
}

// write sends a frame of the parts.
func (s *webSocket) write(parts ...[]byte) error {
	if s.conn.Write(websocket.Text, parts...) != nil {
		return errGone
	}
	return nil
}

// Allow takes a token for a frame. Acknowledgements, pings and pongs are free up to a rate.
func (s *webSocket) Allow(kind websocket.Kind, payload []byte) (wait time.Duration, again bool) {
	if kind == websocket.Pong || kind == websocket.Close || wire.IsAck(payload) || wire.IsPing(payload) {
		if now := s.now(); s.freeFrame < now+freeFrames*freeFrameInterval {
			s.freeFrame = max(s.freeFrame, now) + freeFrameInterval
			return 0, false
		}
	}
	return s.h.throttle(s.r)
}

// Pong implements websocket.Handler, which has noticed that the client is alive.
func (s *webSocket) Pong([]byte) {}

// Buffer reserves memory for an incomplete message, which counts as a body.
func (s *webSocket) Buffer(more int) bool {
	if s.incomplete == nil {
		s.incomplete = s.h.bodies.NewReservation(s.h.payer(s.r))
	}
	if more < 0 {
		s.incomplete.Give(int64(-more))
		return true
	}
	return s.incomplete.Reserve(int64(more)) == nil
}

// hello opens the mailbox with the credentials of the frame.
func (s *webSocket) hello(f wire.Frame) {
	if s.h.access != nil {
		keepToken(s.r, query.Value(f.Query, "invite"))
	}
	login := http.Request{Header: http.Header{}}
	login.SetBasicAuth(f.Name, f.Password)
	name, key, err := s.h.logins.Read(&login, nil)
	if strings.Contains(f.Name, ":") { // it would end the name
		name, err = "", problem.BadRequest("the user name", errors.New("has a colon"))
	}
	if err == nil {
		err = s.h.guard.Allow(s.r, PasswordGuess, name)
	}
	if err == nil && s.h.access != nil {
		err = s.h.admit(s.r, name, key)
	}
	if err == nil {
		err = s.open(s.r, name, key, f.Query)
	}
	if err != nil {
		s.refuseHello(err)
		return
	}
	s.begin()
}
