package ratelimit

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"inbox/internal/netconn"
	"inbox/internal/splitter"

	"inbox/ratelimit/internal/headerscan"
)

// UnfinishedLimiter bounds the memory of TLS handshakes, of TLS messages after them, and of
// HTTP/1.1 headers that clients have begun and not finished. A header costs a server much more
// than its bytes, because each field is an entry of a map. Typical handshakes and headers cost nothing. Beyond that, each charges
// an estimate of its memory to Share until it is complete, and its connection is closed if the
// share of its address is used up. Trusted proxies have no share of their own.
type UnfinishedLimiter struct {
	// Share divides the memory in bytes.
	Share *Share
	// ClientIP identifies trusted proxies.
	ClientIP *ClientIP
	// MaxHeaderBytes is the size of a header as of which net/http refuses it, which
	// [UnfinishedLimiter.LargeHeaders] counts. Zero counts nothing.
	MaxHeaderBytes int64

	handshakes, headers, largeHeaders atomic.Int64
}

const (
	// freeUnfinishedBytes of each handshake and header cost nothing. Browsers send less
	// than 2 KiB of each without large cookies.
	freeUnfinishedBytes = 4 << 10
	// freeFields of each header cost nothing. Browsers and their proxies send 15 to 40.
	freeFields = 64
	// bytesPerField is what net/http allocates for a short field.
	bytesPerField = 200
	// maxPostHandshakeBytes bounds the TLS records after a handshake that bring no application
	// data. A KeyUpdate, the only message that a client has reason to send, takes 27.
	maxPostHandshakeBytes = 4 << 10
	// maxRecordBytes is the size of the largest TLS record, its header included (RFC 8446,
	// section 5.2).
	maxRecordBytes = recordHeaderBytes + 16<<10 + 256
	// unfinishedFactor is the memory per byte of long fields and of handshake messages,
	// in buffers that grow by doubling and in copies.
	unfinishedFactor = 3
)

// Headers returns how many connections were closed during a header.
func (u *UnfinishedLimiter) Headers() int64 { return u.headers.Load() }

// LargeHeaders returns how many headers net/http refused because of their size.
func (u *UnfinishedLimiter) LargeHeaders() int64 { return u.largeHeaders.Load() }

// Handshakes returns how many connections were closed during a handshake, or during a TLS
// message after it.
func (u *UnfinishedLimiter) Handshakes() int64 { return u.handshakes.Load() }

// HandshakeListener returns a listener whose connections are charged for their handshake. It
// belongs under the TLS listener. If [UnfinishedLimiter.HeaderListener],
// [FrameLimiter.FrameConn] or [OnData] follows the data above TLS, connections that send more
// than 4 KiB of records without application data after the handshake are closed: crypto/tls
// keeps an unfinished message of up to 64 KiB.
func (u *UnfinishedLimiter) HandshakeListener(inner net.Listener) net.Listener {
	return netconn.Wrap(inner, func(c net.Conn) net.Conn {
		h := &helloConn{Conn: c, memory: charge{limiter: u}, records: splitter.Splitter{HeaderBytes: recordHeaderBytes}}
		h.records.Measure = h.measure
		return h
	})
}

// HeaderListener returns a listener whose connections are charged for the headers of HTTP/1.1
// requests. It belongs above TLS. A *tls.Conn, or one that a connection wraps, must have
// completed its handshake; as net/http requires, its connection has the method ConnectionState.
func (u *UnfinishedLimiter) HeaderListener(inner net.Listener) net.Listener {
	return netconn.Wrap(inner, func(c net.Conn) net.Conn {
		h := &headerConn{Conn: c, memory: charge{limiter: u}, scan: new(headerscan.Scanner), hello: watchedHello(c)}
		if t, ok := netconn.Find[*tls.Conn](c); ok {
			return tlsConn{h, t}
		}
		return h
	})
}

// charge is what a connection has charged to the share of its address.
type charge struct {
	limiter *UnfinishedLimiter

	held atomic.Int64 // only the reader increases it

	mu     sync.Mutex
	closed bool
}

// addr returns the address of a connection, which with a PROXY header is known after the first read;
// an invalid one for a trusted proxy.
func (c *charge) addr(conn net.Conn) netip.Addr {
	if addr := connAddr(conn); !c.limiter.ClientIP.trusts(addr) {
		return addr
	}
	return netip.Addr{}
}

// set charges cost bytes instead of what was charged before. It reports whether the share
// allows them; otherwise nothing changes.
func (c *charge) set(cost int64, conn net.Conn) bool {
	if cost == 0 && c.held.Load() == 0 {
		return true // as usual, without a lock
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	held := c.held.Load()
	switch {
	case c.closed || cost == held:
		return true
	case cost < held:
		c.limiter.Share.Release(c.addr(conn), held-cost)
	default:
		if !c.limiter.Share.Reserve(c.addr(conn), cost-held) {
			return false
		}
	}
	c.held.Store(cost)
	return true
}

// close releases the charge. Nothing can be charged afterwards.
func (c *charge) close(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if held := c.held.Swap(0); held > 0 {
		c.limiter.Share.Release(c.addr(conn), held)
	}
}

// helloConn is charged for its handshake. When TLS reads from it, all complete records so far
// have been processed, and have brought application data or become part of a message.
type helloConn struct {
	net.Conn
	memory  charge
	records splitter.Splitter
	bytes   int64 // of the handshake, or since there was application data
	done    bool  // the handshake is complete, as for handshakeConn

	watched   bool        // the layer above TLS reports application data
	delivered atomic.Bool // since the last read
}

// watchedHello returns the layer under a TLS connection to which application data must be
// reported, or nil. The handshake must be complete.
func watchedHello(c net.Conn) *helloConn {
	h, ok := netconn.Find[*helloConn](c)
	if ok {
		h.watched = true
	}
	return h
}

// OnData returns a function that must be called after each read from a TLS connection that
// brought application data, so that the connection is one of those that
// [UnfinishedLimiter.HandshakeListener] closes. The handshake must be complete, and nothing may
// have been read. HTTP needs no call: its layers do this themselves.
func OnData(c *tls.Conn) func() {
	if h := watchedHello(c); h != nil {
		return h.deliver
	}
	return func() {}
}

// deliver notes that TLS has delivered application data.
func (c *helloConn) deliver() {
	if !c.delivered.Load() { // a store costs more
		c.delivered.Store(true)
	}
}

func (c *helloConn) measure(header []byte) (length int, counts bool) {
	c.done = c.done || header[0] == recordApplicationData
	return measureRecord(header)
}

// NetConn returns the connection underneath, as tls.Conn does.
func (c *helloConn) NetConn() net.Conn { return c.Conn }

func (c *helloConn) Read(p []byte) (int, error) {
	if c.done {
		return c.readAfter(p)
	}
	n, err := c.Conn.Read(p)
	if n == 0 {
		return n, err
	}
	c.bytes += int64(n)
	if c.records.Count(p[:n]); c.done {
		c.bytes = int64(c.records.Incomplete())
		c.memory.set(0, c.Conn)
		return n, err
	}
	if !c.memory.set(unfinishedFactor*max(0, c.bytes-freeUnfinishedBytes), c.Conn) {
		return c.refuse()
	}
	return n, err
}

// readAfter reads after the handshake, at most one record, so that an unfinished message is no
// larger when it is noticed.
func (c *helloConn) readAfter(p []byte) (int, error) {
	if !c.watched {
		return c.Conn.Read(p)
	}
	if c.delivered.Load() {
		c.delivered.Store(false)
		c.bytes = int64(c.records.Incomplete())
	}
	if c.bytes-int64(c.records.Incomplete()) > maxPostHandshakeBytes {
		return c.refuse()
	}
	n, err := c.Conn.Read(p[:min(len(p), maxRecordBytes)])
	c.records.Count(p[:n])
	c.bytes += int64(n)
	return n, err
}

func (c *helloConn) refuse() (int, error) {
	c.memory.limiter.handshakes.Add(1)
	c.Close()
	return 0, io.EOF
}

// Close closes the connection and releases its charge.
func (c *helloConn) Close() error {
	c.memory.close(c.Conn)
	return c.Conn.Close()
}

// headerConn is charged for the header that it is receiving.
type headerConn struct {
	net.Conn
	memory charge
	scan   *headerscan.Scanner // nil once the connection is hijacked
	hello  *helloConn          // nil without TLS
}

// NetConn returns the connection underneath, as tls.Conn does.
func (c *headerConn) NetConn() net.Conn { return c.Conn }

// Hijacked ends the charging: what follows has no headers.
func (c *headerConn) Hijacked() {
	c.scan = nil
	c.memory.set(0, c.Conn)
}

func (c *headerConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.hello != nil {
		c.hello.deliver()
	}
	if c.scan == nil {
		return n, err
	}
	before := c.scan.Bytes
	c.scan.Add(p[:n])
	if most := c.memory.limiter.MaxHeaderBytes; most > 0 && before < most && c.scan.Bytes >= most && c.scan.InHeader() {
		c.memory.limiter.largeHeaders.Add(1)
	}
	cost := unfinishedFactor*max(0, c.scan.Bytes-freeUnfinishedBytes) + bytesPerField*max(0, c.scan.Lines-freeFields)
	if !c.memory.set(cost, c.Conn) {
		c.memory.limiter.headers.Add(1)
		c.Close()
		return 0, io.EOF
	}
	return n, err
}

// Close closes the connection and releases its charge.
func (c *headerConn) Close() error {
	c.memory.close(c.Conn)
	return c.Conn.Close()
}

// tlsConn is a layer above a TLS connection with the methods that HTTP servers look for.
type tlsConn struct {
	net.Conn
	tls *tls.Conn
}

// NetConn returns the connection underneath, as tls.Conn does.
func (c tlsConn) NetConn() net.Conn { return c.Conn }

func (c tlsConn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }
func (c tlsConn) CloseWrite() error                    { return c.tls.CloseWrite() }
