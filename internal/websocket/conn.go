package websocket

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"inbox/internal/netconn"
	"inbox/internal/socket"
)

// Errors of connections that end without a close frame.
var (
	// ErrNotReading is the error of a client that did not read what was written to it within
	// [Config.WriteTimeout].
	ErrNotReading = errors.New("websocket: the client does not read")
	// ErrNoPong is the error of a connection on which nothing arrived after two pings.
	ErrNoPong = errors.New("websocket: the client does not answer pings")
	// ErrClosing is the error of a write after a close frame.
	ErrClosing = errors.New("websocket: the connection is closing")
)

// Conn is a WebSocket connection, made by [Upgrade]. All methods but Start, WakeAt and
// SetMaxMessageBytes can be called concurrently.
type Conn struct {
	conn    net.Conn           // the outermost layer
	socket  *netconn.FetchConn // of conn; nil if it has none
	config  *Config
	handler Handler
	began   time.Time
	early   *[]byte // what net/http had read; nil without it

	// Of the goroutine that reads, or of TryWake. Times are as those of now; zero is none.
	parser    parser
	messageBy time.Duration // when the message that has begun must be complete
	pingAt    time.Duration
	wakeAt    time.Duration
	checkAt   time.Duration // when to look whether the client has hung up, in a pause
	restAt    time.Duration // when the connection rests, if nothing happens
	activeAt  time.Duration // when something happened
	buffered  int           // bytes of the parser that the handler accounts for
	dropped   int32         // bytes that arrived since the close frame was sent
	pings     uint8         // since something arrived
	wakes     uint8         // calls of Woken in a row
	heard     bool          // something arrived since the last ping
	dropping  bool          // what arrives is not parsed
	restSoon  bool          // nothing more is expected

	handling sync.Mutex // held while a method of the handler can run

	writing   sync.Mutex // held during a write
	unwritten []byte     // of WriteEarly

	mu        sync.Mutex
	protocol  uint8         // the number of the subprotocol in the configuration; zero without one
	closeSent bool          // writing guards it, and mu the rest
	waiting   bool          // the goroutine that reads waits, or is about to
	woken     bool          // Wake was called
	cause     error         // why the connection ends
	closeBy   time.Duration // when it is closed at the latest; zero before a close frame
	deadline  time.Duration // of reading, as it was set last; negative if it has passed
	signal    chan struct{} // ends a pause; nil before the first one

	aborted atomic.Bool
}

// now returns the time since the connection began, which is never zero.
func (c *Conn) now() time.Duration { return max(0, time.Since(c.began)) | 1 }

func (c *Conn) since(t time.Time) time.Duration { return max(0, t.Sub(c.began)) | 1 }

func newConn(conn net.Conn, config *Config, protocol string, early []byte) *Conn {
	c := &Conn{conn: conn, config: config, began: time.Now()}
	c.protocol = uint8(slices.Index(config.Protocols, protocol) + 1)
	if len(early) > 0 {
		c.early = &early
	}
	if socket, ok := netconn.Find[*netconn.FetchConn](conn); ok {
		c.socket = socket
		socket.SetNonblocking()
		_ = socket.SetReadDeadline(time.Time{}) // a layer can have left one
	}
	c.parser.maxBytes = int64(config.MaxMessageBytes)
	return c
}

// Protocol returns the subprotocol, "" without one.
func (c *Conn) Protocol() string {
	if c.protocol == 0 {
		return ""
	}
	return c.config.Protocols[c.protocol-1]
}

// NetConn returns the hijacked connection, for its addresses and its socket. It must not be read,
// written or closed.
func (c *Conn) NetConn() net.Conn { return c.conn }

// Start begins to read in a new goroutine, and calls the handler from it. It must be called once.
func (c *Conn) Start(h Handler) {
	c.handler = h
	if c.config.Conns != nil && !c.config.Conns.add(c) {
		c.Close(GoingAway, "the server is stopping")
	}
	go c.run(c.startReading)
}

// SetMaxMessageBytes changes [Config.MaxMessageBytes] for the messages that follow. It can be
// called before Start and by the methods of the handler.
func (c *Conn) SetMaxMessageBytes(n int) { c.parser.maxBytes = int64(n) }

// run reads until the connection ends, or rests. What begins the reading comes first.
func (c *Conn) run(begin func() error) {
	var err error
	c.handling.Lock()
	defer func() {
		defer c.handling.Unlock()
		if err == errRest {
			c.rest()
			return
		}
		switch failure := recover(); failure {
		case nil:
		case http.ErrAbortHandler:
			c.begin(errAborted)
		default:
			log.Printf("websocket: panic: %v\n%s", failure, debug.Stack())
			c.Close(InternalError, "")
		}
		c.end(err)
	}()
	if err = begin(); err == nil {
		err = c.read()
	}
}

// rest lets the connection wait without a goroutine, or with a small stack: a new one waits before
// it reads.
func (c *Conn) rest() {
	netconn.ReleaseTLSBuffers(c.conn)
	c.restAt, c.restSoon = 0, false
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.woken {
		c.waiting, c.deadline = true, -1 // an earlier deadline would end the wait for nothing
		c.setDeadlineLocked(c.nextDeadlineLocked())
		if c.socket.Await(c) {
			return
		}
		c.waiting = false
	}
	go c.Resume()
}

// Resume implements [netconn.Awaiter], for which alone it is exported.
func (c *Conn) Resume() { c.run(c.wait) }

// end closes the connection and reports it.
func (c *Conn) end(err error) {
	c.begin(err)
	c.conn.Close()
	c.setBuffered(0)
	if c.config.Conns != nil {
		c.config.Conns.remove(c)
	}
	c.handler.Closed(c.cause)
}

// begin notes why the connection ends, unless another reason is known, and ends a pause.
func (c *Conn) begin(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.cause = cause
		c.signalLocked()
	}
}

// isEnding reports whether a reason to end is known.
func (c *Conn) isEnding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause != nil
}

// abort ends the connection without a close frame. The goroutine that reads closes it.
func (c *Conn) abort(cause error) {
	c.begin(cause)
	c.aborted.Store(true)
	c.mu.Lock()
	c.signalLocked()
	c.mu.Unlock()
	if c.socket != nil {
		c.socket.Close() // layers above can wait for a write
		return
	}
	go c.conn.Close()
}

// Wake makes a goroutine of the connection call [Handler] Woken, as soon as no other method runs.
// It never waits, and costs less than a goroutine of its own for what there is to do. After the
// end of the connection, it does nothing.
func (c *Conn) Wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.woken {
		return
	}
	c.woken = true
	if c.waiting {
		c.waiting, c.deadline = false, -1
		_ = c.reading().SetReadDeadline(c.began) // fails on a closed connection
	}
	c.signalLocked()
}

// TryWake calls [Nimble] WokenEarly in the goroutine of the caller, unless another method of the
// handler runs or a write is in progress, and does what Wake does if it returns false. It does not
// wait, and costs less than to wake a goroutine of the connection. The handler must be Nimble.
func (c *Conn) TryWake() {
	if !c.wakeEarly() {
		c.Wake()
	}
}

func (c *Conn) wakeEarly() bool {
	if !c.lockEarly() {
		return false
	}
	isDone := false
	defer func() { // also after a panic, which is the caller's
		c.mu.Lock()
		if c.waiting {
			c.setDeadlineLocked(c.nextDeadlineLocked())
		}
		c.mu.Unlock()
		c.endEarlyWrites()
		c.handling.Unlock()
	}()
	isDone = c.handler.(Nimble).WokenEarly()
	return isDone
}

// lockEarly reports whether the connection waits, and then keeps it from doing anything else.
func (c *Conn) lockEarly() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.waiting || c.cause != nil || c.socket == nil || !c.socket.CanDefer() || !c.handling.TryLock() {
		return false
	}
	if !c.writing.TryLock() {
		c.handling.Unlock()
		return false
	}
	return true
}

// WakeAt makes a goroutine of the connection call [Handler] Woken at a time, and replaces an
// earlier call; the zero time is never. Only the methods of the handler can call it. It needs no
// timer of its own.
func (c *Conn) WakeAt(t time.Time) {
	c.wakeAt = 0
	if !t.IsZero() {
		c.wakeAt = c.since(t)
	}
}

// reading returns the layer whose read deadline ends a wait.
func (c *Conn) reading() net.Conn {
	if c.socket != nil {
		return c.socket
	}
	return c.conn
}

func (c *Conn) makeSignalLocked() {
	if c.signal == nil {
		c.signal = make(chan struct{}, 1)
	}
}

// signalLocked wakes pause and awaitHangUp.
func (c *Conn) signalLocked() {
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

// takeWoken reports whether Wake was called since the last call.
func (c *Conn) takeWoken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	woken := c.woken
	c.woken = false
	return woken
}

// pause waits for d without reading, or until the connection ends. Woken is called when it is due.
// The deadline of a message does not include the time. It is an error if the client has hung up,
// which reading would not notice before the frames that precede the end were handled.
func (c *Conn) pause(d time.Duration) error {
	c.mu.Lock()
	c.makeSignalLocked()
	c.mu.Unlock()
	began := c.now()
	until := began + d
	for t := began; t < until && !c.isEnding(); t = c.now() {
		if err := c.checkPeer(t); err != nil {
			return err
		}
		if isDue := c.wakeAt != 0 && t >= c.wakeAt; c.takeWoken() || isDue {
			if isDue {
				c.wakeAt = 0
			}
			c.handler.Woken()
		}
		c.sleep(until - c.now())
	}
	c.heard = true
	if c.messageBy != 0 {
		c.messageBy += c.now() - began
	}
	return nil
}

// sleep waits for d, for the time of WakeAt or for Wake, but not longer than maxPause.
func (c *Conn) sleep(d time.Duration) {
	d = min(d, maxPause)
	if c.wakeAt != 0 {
		d = min(d, c.wakeAt-c.now())
	}
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.signal:
	}
}

// checkPeer looks now and then whether the client of a connection that is not read has hung up. A
// ping that is due makes the kernel of a client whose end is stuck in its buffers reset the
// connection.
func (c *Conn) checkPeer(t time.Duration) error {
	if c.pingAt != 0 && t >= c.pingAt {
		c.pingAt = t + c.config.PingInterval
		_ = c.Ping(nil) // an error ends the connection
	}
	if t < c.checkAt {
		return nil
	}
	c.checkAt = t + maxPause
	layer, ok := netconn.Find[syscall.Conn](c.conn)
	if !ok {
		return nil
	}
	if raw, err := layer.SyscallConn(); err == nil && !socket.Alive(raw) {
		return io.EOF
	}
	return nil
}
