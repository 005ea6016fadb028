package ratelimit

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// FrameLimiter limits what a client can make a server do without a request: frames
// of HTTP/2, which it answers, and records of TLS with next to nothing in them, each
// of which may change the keys. Who sends too many is read more slowly, and
// left when even that would take too long. Every piece is taken from the bucket of
// the address; connections of trusted proxies and Unix sockets are not looked at.
type FrameLimiter struct {
	Limiter *Limiter
	// ClientIP knows the proxies.
	ClientIP *ClientIP
	// DryRun counts what would be slowed, and slows nothing.
	DryRun bool

	throttled, dropped atomic.Int64
}

const (
	// chargeEvery pieces are paid for at once: asking for each would cost more
	// than most of them do. So many are free on each connection.
	chargeEvery = 16
	// maxPause is how long a connection is not read at most. An address
	// that owes more is left.
	maxPause = 2 * time.Second
	// smallRecordBytes is the bytes below which a record counts. A request is
	// mostly larger, a change of keys without padding is 22.
	smallRecordBytes = 128
	// smallDataBytes is the bytes below which a frame of a body counts.
	smallDataBytes = 1 << 10
	// smallReadBytes are read at once where there are many pieces, so that nobody
	// owes seconds for what one read brought.
	smallReadBytes = 512
	// bytesPerFreeFrame is what the server writes for each frame that is free: who
	// reads much has to grant windows for it.
	bytesPerFreeFrame = 1 << 10
)

var errTooManyFrames = errors.New("the client sends too many frames or records without asking for anything")

// Throttled returns how often a connection had to wait; Ended how many were left.
func (f *FrameLimiter) Throttled() int64 { return f.throttled.Load() }
func (f *FrameLimiter) Dropped() int64   { return f.dropped.Load() }

// RecordListener returns a listener, to be put under TLS, whose connections pay for
// small records.
func (f *FrameLimiter) RecordListener(inner net.Listener) net.Listener {
	return recordListener{inner, f}
}

// FrameConn returns a connection that negotiated HTTP/2, before anything is read
// from it, as one that pays for frames.
func (f *FrameLimiter) FrameConn(c *tls.Conn) net.Conn {
	units := splitter{headerBytes: frameHeaderBytes, measure: measureFrame, skip: prefaceBytes}
	return &frameConn{throttledConn{Conn: c, limiter: f, units: units}, c}
}

// frameConn still tells HTTP/2 of the TLS underneath.
type frameConn struct {
	throttledConn
	tls *tls.Conn
}

func (c *frameConn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

type recordListener struct {
	net.Listener
	limiter *FrameLimiter
}

func (l recordListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &throttledConn{Conn: c, limiter: l.limiter, units: splitter{headerBytes: recordHeaderBytes, measure: measureRecord}}, nil
}

// throttledConn counts what is read from it.
type throttledConn struct {
	net.Conn
	limiter     *FrameLimiter
	units       splitter
	uncharged   int  // pieces not yet paid for
	mostlySmall bool // whether what was read last was little else
	written     atomic.Int64

	once sync.Once // by the first that pays: under a PROXY header the address is known only then
	addr netip.Addr

	mu     sync.Mutex
	closed bool
	wake   chan struct{} // while it pauses; closed by Close
}

// Raw returns the connection underneath.
func (c *throttledConn) Raw() net.Conn { return c.Conn }

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
	units := c.units.count(p[:n])
	c.uncharged += units
	c.mostlySmall = units*smallRecordBytes > n
	return n, err
}

func (c *throttledConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// charge takes tokens for what was read, and waits until the address has none to
// pay back.
func (c *throttledConn) charge() error {
	c.once.Do(func() {
		if c.addr = connAddr(c.Conn); c.limiter.ClientIP.trusts(c.addr) {
			c.addr = netip.Addr{}
		}
	})
	free := min(c.written.Load()/bytesPerFreeFrame, int64(c.uncharged))
	c.written.Add(-free * bytesPerFreeFrame)
	n := c.uncharged - int(free)
	c.uncharged = 0
	wait, err := c.limiter.charge(c.addr, n)
	if wait > 0 {
		c.pause(wait)
	}
	return err
}

// charge returns how long the connection is to wait, or that it is to end.
func (f *FrameLimiter) charge(addr netip.Addr, n int) (time.Duration, error) {
	wait := f.Limiter.chargeN(addr, n, maxPause, time.Now())
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

// pause waits for so long, or until the connection is closed.
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

// Close closes the connection, and wakes the one who waits to read from it.
func (c *throttledConn) Close() error {
	c.mu.Lock()
	if !c.closed && c.wake != nil {
		close(c.wake)
	}
	c.closed = true
	c.mu.Unlock()
	return c.Conn.Close()
}
