package ratelimit

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// HandshakeLimiter bounds how many TLS handshakes of an address are worked on at once, so
// that one that opens many connections does not have all processors to itself.
// The others of that address wait in order, and no other address waits for
// them. A turn lasts while the server computes and never while it waits for the
// client: it is taken when something was read, and given back before the next
// write or read. Connections of trusted proxies and Unix sockets wait for nobody.
type HandshakeLimiter struct {
	// PerAddr is how many an address has at once, and a /48 sixteen times as
	// many; zero is no limit.
	PerAddr int
	// Timeout is how long after its start a connection may wait for a turn.
	Timeout time.Duration
	// ClientIP knows the proxies.
	ClientIP *ClientIP
	// DryRun counts who would wait, and lets nobody.
	DryRun bool

	waited atomic.Int64
	mu     sync.Mutex
	queues map[key]*queue // of those who have a turn or wait for one
}

// queue is where an address waits: what is sent is a turn, and whoever waits to
// send is next in order.
type queue struct {
	slots chan struct{}
	refs  int
}

// Waited returns how often a handshake had to wait.
func (h *HandshakeLimiter) Waited() int64 { return h.waited.Load() }

// Listener returns a listener, to be put under TLS, whose connections take
// turns until their handshake is done.
func (h *HandshakeLimiter) Listener(inner net.Listener) net.Listener {
	if h.PerAddr <= 0 {
		return inner
	}
	return handshakeListener{inner, h}
}

type handshakeListener struct {
	net.Listener
	limiter *HandshakeLimiter
}

func (l handshakeListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	state := &handshakeState{records: splitter{headerBytes: recordHeaderBytes}, deadline: time.Now().Add(l.limiter.Timeout)}
	state.records.measure = state.measure
	return &handshakeConn{Conn: c, limiter: l.limiter, state: state}, nil
}

// handshakeConn takes turns while it shakes hands.
type handshakeConn struct {
	net.Conn
	limiter   *HandshakeLimiter
	state     *handshakeState // nil once it is done; the reader's alone
	keys      [2]key          // the address's, none for one that waits for nobody
	holdsSlot atomic.Bool
	closed    atomic.Bool
}

// handshakeState follows the records that come.
type handshakeState struct {
	records   splitter
	deadline  time.Time
	done      bool
	keysKnown bool // whether the keys are: under a PROXY header only once something was read
}

// measure sees the end of what costs in the first record of another kind than
// the handshake's: in TLS 1.3 the client's Finished, in 1.2 its first request. No
// expensive step follows it, and before its time it is an error.
func (h *handshakeState) measure(header []byte) (length int, counts bool) {
	const applicationData = 23
	h.done = h.done || header[0] == applicationData
	return measureRecord(header)
}

// Raw returns the connection underneath.
func (c *handshakeConn) Raw() net.Conn { return c.Conn }

func (c *handshakeConn) Read(p []byte) (int, error) {
	c.release()
	n, err := c.Conn.Read(p)
	if c.state == nil || n == 0 {
		return n, err
	}
	if c.state.records.count(p[:n]); c.state.done {
		c.state = nil
		return n, err
	}
	if !c.acquire() {
		return 0, os.ErrDeadlineExceeded
	}
	return n, err
}

func (c *handshakeConn) Write(p []byte) (int, error) {
	c.release()
	return c.Conn.Write(p)
}

// Close closes the connection. One that still waits for its turn finds out
// when it has it.
func (c *handshakeConn) Close() error {
	c.closed.Store(true)
	c.release()
	return c.Conn.Close()
}

// acquire waits for a turn, and reports whether the connection may go on.
func (c *handshakeConn) acquire() bool {
	if !c.state.keysKnown {
		c.state.keysKnown = true
		if addr := connAddr(c.Conn); !c.limiter.ClientIP.trusts(addr) {
			c.keys = keysOf(addr)
		}
	}
	if c.keys[0] == (key{}) {
		return true
	}
	if !c.limiter.acquire(c.keys, c.state.deadline) {
		return c.limiter.DryRun
	}
	if c.holdsSlot.Store(true); c.closed.Load() {
		c.release()
	}
	return true
}

// release ends the turn, if there is one.
func (c *handshakeConn) release() {
	if c.holdsSlot.Load() && c.holdsSlot.Swap(false) {
		c.limiter.release(c.keys)
	}
}

// acquire waits for a turn of the address, then for one of its network.
func (h *HandshakeLimiter) acquire(keys [2]key, deadline time.Time) bool {
	if !h.acquireSlot(keys[0], deadline) {
		return false
	}
	if !h.acquireSlot(keys[1], deadline) {
		h.releaseSlot(keys[0])
		return false
	}
	return true
}

func (h *HandshakeLimiter) release(keys [2]key) {
	h.releaseSlot(keys[1])
	h.releaseSlot(keys[0])
}

// acquireSlot reports whether there is a turn now, for the one who waited for it.
func (h *HandshakeLimiter) acquireSlot(k key, deadline time.Time) bool {
	if k == (key{}) {
		return true
	}
	slots := h.retainQueue(k)
	select {
	case slots <- struct{}{}:
		return true
	default:
	}
	if h.waited.Add(1); h.DryRun {
		h.releaseQueue(k)
		return false
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case slots <- struct{}{}:
		return true
	case <-timer.C:
		h.releaseQueue(k)
		return false
	}
}

func (h *HandshakeLimiter) releaseSlot(k key) {
	if k != (key{}) {
		<-h.releaseQueue(k)
	}
}

// retainQueue counts one more user of a line, made for the first.
func (h *HandshakeLimiter) retainQueue(k key) chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.queues[k]
	if q == nil {
		q = &queue{slots: make(chan struct{}, h.slotsFor(k))}
		if h.queues == nil {
			h.queues = make(map[key]*queue)
		}
		h.queues[k] = q
	}
	q.refs++
	return q.slots
}

// releaseQueue counts one user less; the last takes the line away.
func (h *HandshakeLimiter) releaseQueue(k key) chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.queues[k]
	if q.refs--; q.refs == 0 {
		delete(h.queues, k)
	}
	return q.slots
}

func (h *HandshakeLimiter) slotsFor(k key) int {
	if k.isNetwork() {
		return networkFactor * h.PerAddr
	}
	return h.PerAddr
}
