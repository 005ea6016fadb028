package websocket

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"inbox/internal/netconn"

	"github.com/gobwas/ws"
)

const (
	// readBytes is the size of the buffer that is held while bytes are handled.
	readBytes = 4 << 10
	// freeMessageBytes of an incomplete message are not accounted for.
	freeMessageBytes = readBytes
	// maxDroppedBytes bounds what is read after a close frame, so that a client that sends
	// meanwhile receives it before the connection is reset.
	maxDroppedBytes = 256 << 10
	// restAfter is how long nothing happens until a connection waits without a goroutine, where the
	// system can report when something arrives, or otherwise in a new one: the stack of the old one
	// has grown, and the garbage collector does not shrink it below 4 KiB.
	restAfter = time.Second
	// maxMissedPings is how many pings go unanswered before a connection is closed.
	maxMissedPings = 2
	// maxPause bounds the wait of a connection that is throttled, unless its handler asks for a
	// longer one.
	maxPause = time.Second
	// maxWakes bounds the calls of Woken until what has arrived is read, for which readTime is left.
	maxWakes = 64
	readTime = time.Millisecond
)

var readBuffers = sync.Pool{New: func() any { return new([readBytes]byte) }}

var (
	// errEnded ends the reading of a connection whose end has a reason already.
	errEnded = errors.New("websocket: ended")
	// errRest ends the reading in this goroutine.
	errRest = errors.New("websocket: rest")
)

// read reads until the connection ends or rests, and returns why.
func (c *Conn) read() error {
	for {
		err := c.receive()
		if err == netconn.ErrWouldBlock {
			err = c.wait() // also between two receives, so that Woken is called while much arrives
		}
		if err != nil {
			return err
		}
	}
}

// startReading handles what net/http has read.
func (c *Conn) startReading() error {
	c.postponeRest() // a client can send nothing
	if c.config.PingInterval > 0 {
		c.pingAt = c.now() + c.config.PingInterval
	}
	if c.early == nil {
		return nil
	}
	early := *c.early
	c.early = nil
	return c.handleBytes(early)
}

// receive handles what has arrived. Without anything, it returns ErrWouldBlock, or waits if the
// connection cannot be polled.
func (c *Conn) receive() error {
	if c.socket == nil && !c.prepareWait() {
		c.handler.Woken()
		return nil
	}
	b := readBuffers.Get().(*[readBytes]byte)
	defer readBuffers.Put(b)
	n, err := c.conn.Read(b[:])
	if c.socket == nil {
		c.endWait()
	}
	if n > 0 {
		if err := c.handleBytes(b[:n]); err != nil {
			return err
		}
	}
	if c.socket == nil && isTimeout(err) {
		return c.expire()
	}
	return err
}

// wait waits until something has arrived. The goroutine holds no buffer.
func (c *Conn) wait() error {
	for {
		if c.restSoon {
			return errRest
		}
		if !c.prepareWait() {
			c.handler.Woken()
			c.postponeRest()
			continue
		}
		c.handling.Unlock()
		err := c.socket.Fetch()
		c.handling.Lock()
		c.endWait()
		if !isTimeout(err) {
			if c.restAt == 0 {
				c.restAt = c.now() + c.restAfter() // also after a part of a TLS record
			}
			return err
		}
		if err := c.expire(); err != nil {
			return err
		}
	}
}

// postponeRest notes that something happened. What comes after a rest is likely to come alone, as
// heartbeats do: then the connection rests at once, as a timer for that would wake the process once
// more.
func (c *Conn) postponeRest() {
	if c.socket == nil {
		return
	}
	t := c.now()
	c.restSoon = t-c.activeAt >= c.restAfter()
	c.activeAt, c.restAt = t, t+c.restAfter()
}

func (c *Conn) restAfter() time.Duration { return cmp.Or(c.config.restAfter, restAfter) }

func isTimeout(err error) bool { return err != nil && errors.Is(err, os.ErrDeadlineExceeded) }

// prepareWait sets the next deadline of reading, unless the one that is set is earlier. It reports
// false instead if Wake was called.
func (c *Conn) prepareWait() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := c.nextDeadlineLocked()
	switch {
	case c.cause != nil || !c.woken:
	case c.wakes == maxWakes:
		next = min(cmp.Or(next, math.MaxInt64), c.now()+readTime)
	default:
		c.woken = false
		c.wakes++
		return false
	}
	c.wakes, c.waiting = 0, true
	c.setDeadlineLocked(next)
	return true
}

// setDeadlineLocked sets a deadline of reading; zero is none.
func (c *Conn) setDeadlineLocked(next time.Duration) {
	switch {
	case next != 0 && (c.deadline <= 0 || next < c.deadline):
		_ = c.reading().SetReadDeadline(c.began.Add(next)) // fails on a closed connection, as reading will
	case next == 0 && c.deadline < 0:
		_ = c.reading().SetReadDeadline(time.Time{})
	default:
		return
	}
	c.deadline = next
}

func (c *Conn) nextDeadlineLocked() (next time.Duration) {
	for _, by := range [...]time.Duration{c.messageBy, c.pingAt, c.wakeAt, c.restAt, c.closeBy} {
		if by != 0 && (next == 0 || by < next) {
			next = by
		}
	}
	return next
}

func (c *Conn) endWait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
}

// expire does what is due when the deadline of reading has passed, or Wake has moved it.
func (c *Conn) expire() error {
	c.mu.Lock()
	c.deadline = -1
	closeBy := c.closeBy
	c.mu.Unlock()
	t := c.now()
	switch {
	case closeBy != 0 && t >= closeBy:
		return errEnded
	case c.messageBy != 0 && t >= c.messageBy:
		c.messageBy = 0
		c.fail(fault(PolicyViolation, "the message was not complete in time"))
	case c.pingAt != 0 && t >= c.pingAt:
		c.postponeRest()
		return c.ping(t)
	case c.wakeAt != 0 && t >= c.wakeAt:
		c.wakeAt = 0
		if !c.isEnding() {
			c.handler.Woken()
		}
		c.postponeRest()
	case c.restAt != 0 && t >= c.restAt:
		return errRest
	}
	return nil
}

// ping sends the next ping, or ends a connection that has not answered the last ones.
func (c *Conn) ping(t time.Duration) error {
	if c.heard {
		c.pings = 0
	}
	if c.pings >= maxMissedPings {
		return ErrNoPong
	}
	c.heard = false
	c.pings++
	c.pingAt = t + c.config.PingInterval
	if err := c.Ping(nil); err != nil && !errors.Is(err, ErrClosing) {
		return err
	}
	return nil
}

// handleBytes handles the frames of b.
func (c *Conn) handleBytes(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	c.heard = true
	c.postponeRest()
	if c.isEnding() {
		if c.dropped += int32(len(b)); c.dropped > maxDroppedBytes {
			return errEnded
		}
	}
	for len(b) > 0 && !c.dropping {
		f, rest, err := c.parser.next(b)
		b = rest
		switch broken := (*CloseError)(nil); {
		case errors.As(err, &broken):
			c.fail(broken)
		case f.kind != 0:
			if err := c.handle(f); err != nil {
				return err
			}
		}
	}
	c.followMessage()
	if c.dropping && c.parser.header.Length > maxDroppedBytes {
		return c.awaitHangUp()
	}
	return nil
}

// awaitHangUp waits until the client closes the connection, or the time for that is over. It reads
// nothing: the rest of the frame is more than what is dropped, so the connection would be reset
// before the client has seen the close frame, after much work.
func (c *Conn) awaitHangUp() error {
	c.mu.Lock()
	c.makeSignalLocked()
	until := c.closeBy
	c.mu.Unlock()
	c.wakeAt = 0
	for t := c.now(); t < until && !c.aborted.Load(); t = c.now() {
		if err := c.checkPeer(t); err != nil {
			return err
		}
		c.sleep(until - t)
	}
	return errEnded
}

// followMessage sets the deadline of a message that has begun, and accounts for its memory.
func (c *Conn) followMessage() {
	switch {
	case c.dropping || c.parser.idle():
		c.messageBy = 0
	case c.messageBy == 0 && c.config.MessageTimeout > 0:
		c.messageBy = c.now() + c.config.MessageTimeout
	}
	if !c.setBuffered(cap(c.parser.message)) {
		c.fail(fault(TryAgainLater, "the server has no memory for the message"))
	}
}

// setBuffered accounts for the memory of an incomplete message, and reports whether it can have
// it.
func (c *Conn) setBuffered(n int) bool {
	if n <= freeMessageBytes {
		n = 0
	}
	more := n - c.buffered
	if more == 0 {
		return true
	}
	accounts, ok := c.handler.(Buffering)
	if !ok {
		return true
	}
	if more > 0 && !accounts.Buffer(more) {
		return false
	}
	if more < 0 {
		accounts.Buffer(more)
	}
	c.buffered = n
	return true
}

// handle handles a frame when the handler allows it. Once the connection ends, only a close frame
// matters.
func (c *Conn) handle(f frame) error {
	if err := c.awaitAllowance(f); err != nil {
		return err
	}
	switch {
	case f.kind == Close:
		return c.handleClose(f.payload)
	case c.isEnding():
	case f.kind == Ping:
		_ = c.writeFrame(ws.OpPong, f.payload) // an error ends the connection
	case f.kind == Pong:
		c.handler.Pong(f.payload)
	case f.kind == Text, f.kind == Binary:
		c.handler.Message(f.kind, f.payload)
	}
	return nil
}

// awaitAllowance waits until the handler allows a frame.
func (c *Conn) awaitAllowance(f frame) error {
	var delay, wait time.Duration
	for again := true; again && !c.isEnding(); {
		var d time.Duration
		if d, again = c.handler.Allow(f.kind, f.payload); d <= 0 {
			break
		}
		// Another connection can have taken what was to come: each refusal doubles the wait.
		wait = max(d, min(2*wait, maxPause))
		began := c.now()
		err := c.pause(wait)
		delay += c.now() - began
		if err != nil {
			return err
		}
	}
	if delay > 0 && c.config.OnDelay != nil {
		c.config.OnDelay(delay)
	}
	return nil
}

// handleClose answers the close frame of the client, and ends the connection.
func (c *Conn) handleClose(payload []byte) error {
	received, err := parseClose(payload)
	if err != nil {
		c.fail(err)
		return nil
	}
	c.begin(received)
	c.sendClose(received.Code, "")
	return errEnded
}

// parseClose returns the content of a close frame, or the error of an invalid one.
func parseClose(payload []byte) (received, err *CloseError) {
	switch len(payload) {
	case 0:
		return &CloseError{Code: NoStatus, Remote: true}, nil
	case 1:
		return nil, fault(ProtocolError, "a close frame has one byte")
	}
	code, reason := binary.BigEndian.Uint16(payload), payload[2:]
	if !isValidCode(code) {
		return nil, fault(ProtocolError, "a close frame has an invalid code")
	}
	if !utf8.Valid(reason) {
		return nil, fault(InvalidPayload, "the reason of a close frame is not valid UTF-8")
	}
	return &CloseError{Code: code, Reason: string(reason), Remote: true}, nil
}

// isValidCode reports whether a close frame can have the code.
func isValidCode(code uint16) bool {
	if code >= ServiceRestart && code <= badGateway {
		return true // registered since RFC 6455
	}
	return code <= maxStatusCode && ws.CheckCloseFrameData(ws.StatusCode(code), "") == nil
}
