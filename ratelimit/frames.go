package ratelimit

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"inbox/internal/netconn"
	"inbox/internal/splitter"
)

// FrameLimiter limits what a client can make a server do without a request: HTTP/2 frames,
// which the server answers, and TLS records with almost no content, each of which can
// change the keys. Each such unit takes a token of the address. When the address is in
// debt, its connections are read more slowly, and dropped if the debt is too large.
// Connections of trusted proxies and of Unix sockets are not limited.
type FrameLimiter struct {
	Limiter *Limiter
	// ClientIP identifies trusted proxies.
	ClientIP *ClientIP
	// DryRun counts what would be throttled but throttles nothing.
	DryRun bool

	throttled, dropped atomic.Int64
}

const (
	// chargeEvery is how many units are charged together, because a charge costs more
	// than most units do. As many are free on each connection.
	chargeEvery = 16
	// maxPause bounds how long a connection is not read. A connection whose address owes
	// more is dropped.
	maxPause = 2 * time.Second
	// smallReadBytes bounds one read of a connection that brings mostly small units, so
	// that one read does not put the address seconds into debt.
	smallReadBytes = 512
	// bytesPerFreeFrame is how many bytes the server writes for each free unit, because a
	// client that reads much must grant flow-control windows for it.
	bytesPerFreeFrame = 1 << 10
	// recordDiscount is how many small TLS records of another protocol than HTTP count as one: a
	// relayed phone call brings fifty a second, and a TLS stack ends a connection with as many
	// messages that carry no data.
	recordDiscount = 16
)

var errTooManyFrames = errors.New("too many frames or records without requests")

// Throttled returns how often a connection was throttled, or would have been in a dry run.
func (f *FrameLimiter) Throttled() int64 { return f.throttled.Load() }

// Dropped returns how many connections were dropped.
func (f *FrameLimiter) Dropped() int64 { return f.dropped.Load() }

// RecordListener returns a listener whose connections are charged for small TLS records. It
// belongs under the TLS listener. After [netconn.Hijacked], as many of them count as one as a
// stream of another protocol brings.
func (f *FrameLimiter) RecordListener(inner net.Listener) net.Listener {
	return netconn.Wrap(inner, func(c net.Conn) net.Conn {
		return &throttledConn{Conn: c, limiter: f, units: splitter.Splitter{HeaderBytes: recordHeaderBytes, Measure: measureRecord}}
	})
}

// FrameConn returns c as a connection that is charged for HTTP/2 frames. Its ALPN protocol
// must be h2, and nothing may have been read from it.
func (f *FrameLimiter) FrameConn(c *tls.Conn) net.Conn {
	units := splitter.Splitter{HeaderBytes: frameHeaderBytes, Measure: measureFrame, Skip: prefaceBytes}
	return tlsConn{&throttledConn{Conn: c, limiter: f, units: units, hello: watchedHello(c)}, c}
}

// throttledConn counts the units that are read from it.
type throttledConn struct {
	net.Conn
	limiter     *FrameLimiter
	units       splitter.Splitter
	hello       *helloConn // of frames; nil if there is none
	uncharged   int        // units not charged yet
	mostlySmall bool       // whether the last read brought mostly small units
	discounted  bool       // recordDiscount units count as one
	client      *Client    // nil before the first charge: with a PROXY header, the address is unknown earlier
	written     atomic.Int64

	mu     sync.Mutex
	closed bool
	wake   chan struct{} // during a pause; closed by Close
}

// NetConn returns the connection underneath, as tls.Conn does.
func (c *throttledConn) NetConn() net.Conn { return c.Conn }

// Hijacked discounts small TLS records, which are the content of another protocol. The connection
// must not be read meanwhile.
func (c *throttledConn) Hijacked() { c.discounted = true }

func (c *throttledConn) Read(p []byte) (int, error) {
	if c.uncharged >= chargeEvery {
		if err := c.charge(); err != nil {
			return 0, err
		}
	}
	if c.mostlySmall {
		p = p[:min(len(p), smallReadBytes)]
	}
	n, err := c.Conn.Read(p)
	if n == 0 {
		return n, err
	}
	if c.hello != nil {
		c.hello.deliver()
	}
	units := c.units.Count(p[:n])
	c.uncharged += units
	c.mostlySmall = units*smallRecordBytes > n
	return n, err
}

func (c *throttledConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// charge charges for the units read, and waits until the address is out of debt.
func (c *throttledConn) charge() error {
	if c.client == nil {
		c.client = c.limiter.clientOf(c.Conn)
	}
	free := min(c.written.Load()/bytesPerFreeFrame, int64(c.uncharged))
	c.written.Add(-free * bytesPerFreeFrame)
	n := c.uncharged - int(free)
	c.uncharged = 0
	if c.discounted {
		n, c.uncharged = n/recordDiscount, n%recordDiscount
	}
	wait, err := c.limiter.charge(c.client, n)
	if wait > 0 {
		c.pause(wait)
	}
	return err
}

// clientOf returns the client of a connection, without an address if it is not limited.
func (f *FrameLimiter) clientOf(c net.Conn) *Client {
	addr := connAddr(c)
	if f.ClientIP.trusts(addr) {
		addr = netip.Addr{}
	}
	return NewClient(addr)
}

// charge returns how long the connection must wait, or an error if it must be dropped.
func (f *FrameLimiter) charge(client *Client, n int) (time.Duration, error) {
	wait := f.Limiter.ChargeFrom(client, n, maxPause, time.Now())
	if wait <= 0 {
		return 0, nil
	}
	f.throttled.Add(1)
	if f.DryRun {
		return 0, nil
	}
	if wait > maxPause {
		f.dropped.Add(1)
		return 0, errTooManyFrames
	}
	return wait, nil
}

// pause waits for d or until the connection is closed.
func (c *throttledConn) pause(d time.Duration) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	wake := make(chan struct{})
	c.wake = wake
	c.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	}
}

// Close closes the connection and wakes a throttled reader.
func (c *throttledConn) Close() error {
	c.mu.Lock()
	if !c.closed && c.wake != nil {
		close(c.wake)
	}
	c.closed = true
	c.mu.Unlock()
	return c.Conn.Close()
}
