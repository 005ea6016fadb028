package ratelimit

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"inbox/internal/netconn"
	"inbox/internal/splitter"
	"inbox/ratelimit/internal/buckets"
)

// HandshakeLimiter bounds how many TLS handshakes are computed at once: of an address, so
// that one that opens many connections does not occupy all processors, and in total, so that
// many addresses do not delay the connections that are open. Further handshakes of an address
// queue for a slot in order. In the queue of all addresses, each thus has a few handshakes,
// and a new client waits at most for one of every other. A connection holds a slot only while
// the server computes: it acquires one when bytes have arrived and releases it before the next
// read or write, so that a slow client holds none. Connections of trusted proxies and of Unix sockets do not queue.
type HandshakeLimiter struct {
	// PerAddr is the number of slots of an address. A /48 has sixteen times as many;
	// zero is no limit.
	PerAddr int
	// Total is the number of slots of all addresses; zero is no limit.
	Total int
	// Rest makes a Total of one slot free only as long as it is used, in turns of a millisecond or
	// more. On a single processor, the goroutines that compute handshakes otherwise run one after
	// the other, and Go looks at the network every 10 ms meanwhile.
	Rest bool
	// Timeout bounds how long after it was accepted a connection waits for a slot.
	Timeout time.Duration
	// ClientIP identifies trusted proxies.
	ClientIP *ClientIP
	// DryRun counts handshakes that would wait but delays none.
	DryRun bool

	waited atomic.Int64
	mu     sync.Mutex
	queues map[key]*queue // of addresses that hold a slot or wait for one
	since  time.Time      // when the slot of all was acquired
	used   time.Duration  // how long it was used since its last rest
}

// restAfter is how long the slot of all is used before it rests.
const restAfter = time.Millisecond

// queue is the queue of an address. A send to slots acquires a slot; blocked sends are
// served in order.
type queue struct {
	slots chan struct{}
	refs  int
}

// Waited returns how often a handshake waited, or would have in a dry run.
func (h *HandshakeLimiter) Waited() int64 { return h.waited.Load() }

// Listener returns a listener whose connections acquire slots until their handshake is
// done. It belongs under the TLS listener.
func (h *HandshakeLimiter) Listener(inner net.Listener) net.Listener {
	if h.PerAddr <= 0 {
		return inner
	}
	return netconn.Wrap(inner, func(c net.Conn) net.Conn {
		h := &handshakeConn{Conn: c, limiter: h, deadline: time.Now().Add(h.Timeout)}
		h.records = splitter.Splitter{HeaderBytes: recordHeaderBytes, Measure: h.measure}
		return h
	})
}

// handshakeConn acquires slots during its handshake.
type handshakeConn struct {
	net.Conn
	limiter   *HandshakeLimiter
	keys      [3]key // the queues in which it needs a slot; none for a trusted proxy
	holdsSlot atomic.Bool
	closed    atomic.Bool

	// Of the reader:
	records   splitter.Splitter
	deadline  time.Time
	done      bool // the handshake
	keysKnown bool // with a PROXY header, only after the first read
}

// measure detects the end of the handshake by the first record of application data: the
// client's Finished in TLS 1.3, its first request in TLS 1.2. No expensive step follows
// it, and TLS rejects such a record that comes too early.
func (c *handshakeConn) measure(header []byte) (length int, counts bool) {
	c.done = c.done || header[0] == recordApplicationData
	return measureRecord(header)
}

// NetConn returns the connection underneath, as tls.Conn does.
func (c *handshakeConn) NetConn() net.Conn { return c.Conn }

func (c *handshakeConn) Read(p []byte) (int, error) {
	c.release()
	n, err := c.Conn.Read(p)
	if c.done || n == 0 {
		return n, err
	}
	if c.records.Count(p[:n]); c.done {
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

// Close closes the connection. If its reader waits for a slot, the reader releases the
// slot as soon as it has acquired it.
func (c *handshakeConn) Close() error {
	c.closed.Store(true)
	c.release()
	return c.Conn.Close()
}

// acquire waits for a slot and reports whether the handshake may continue.
func (c *handshakeConn) acquire() bool {
	if !c.keysKnown {
		c.keysKnown = true
		if addr := connAddr(c.Conn); !c.limiter.ClientIP.trusts(addr) {
			c.keys = c.limiter.queuesOf(addr)
		}
	}
	if c.keys[0] == (key{}) {
		return true
	}
	if !c.limiter.acquire(c.keys, c.deadline) {
		return c.limiter.DryRun
	}
	if c.holdsSlot.Store(true); c.closed.Load() {
		c.release()
	}
	return true
}

// release returns the slot to the queue of its address, if the connection has one.
func (c *handshakeConn) release() {
	if c.holdsSlot.Load() && c.holdsSlot.Swap(false) {
		c.limiter.release(c.keys[:])
	}
}

// queuesOf returns the queues of a connection: of its address, its network and everyone.
func (h *HandshakeLimiter) queuesOf(addr netip.Addr) (queues [3]key) {
	keys := keysOf(addr)
	copy(queues[:], keys[:])
	if h.Total > 0 && keys[0] != (key{}) {
		queues[2] = key{Kind: buckets.Everyone}
	}
	return queues
}

// acquire waits for a slot of each queue in turn.
func (h *HandshakeLimiter) acquire(queues [3]key, deadline time.Time) bool {
	for i, q := range queues {
		if !h.acquireSlot(q, deadline) {
			h.release(queues[:i])
			return false
		}
	}
	if h.Rest {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.since = time.Now()
	}
	return true
}

func (h *HandshakeLimiter) release(queues []key) {
	for _, q := range slices.Backward(queues) {
		if rest := h.restOf(q); rest > 0 {
			time.AfterFunc(rest, func() { h.releaseSlot(q) })
			continue
		}
		h.releaseSlot(q)
	}
}

// restOf returns how long a slot that is released rests before it can be acquired again.
func (h *HandshakeLimiter) restOf(k key) (rest time.Duration) {
	if !h.Rest || k.Kind != buckets.Everyone {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.used += time.Since(h.since); h.used >= restAfter {
		rest, h.used = h.used, 0
	}
	return rest
}

// acquireSlot waits for a slot and reports whether it acquired one.
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

// retainQueue returns the slots of k's queue and adds a reference. The first reference
// creates the queue.
func (h *HandshakeLimiter) retainQueue(k key) chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.queues[k]
	if q == nil {
		slots := h.PerAddr
		switch {
		case k.Kind == buckets.Everyone:
			slots = h.Total
		case k.Kind == buckets.Network:
			slots *= networkFactor
		}
		q = &queue{slots: make(chan struct{}, slots)}
		if h.queues == nil {
			h.queues = make(map[key]*queue)
		}
		h.queues[k] = q
	}
	q.refs++
	return q.slots
}

// releaseQueue drops a reference. The last one deletes the queue.
func (h *HandshakeLimiter) releaseQueue(k key) chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.queues[k]
	if q.refs--; q.refs == 0 {
		delete(h.queues, k)
	}
	return q.slots
}
