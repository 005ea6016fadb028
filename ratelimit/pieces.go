package ratelimit

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Pieces limits what a client can make a server do without a request: frames
// of HTTP/2, which it answers, and records of TLS with next to nothing in them, each
// of which may change the keys. Who sends too many is read more slowly, and
// left when even that would take too long. Every piece is taken from the bucket of
// the address; connections of trusted proxies and Unix sockets are not looked at.
type Pieces struct {
	Limiter *Limiter
	// Clients knows the proxies.
	Clients *Clients
	// DryRun counts what would be slowed, and slows nothing.
	DryRun bool

	slowed, ended atomic.Int64
}

const (
	// payEvery pieces are paid for at once: asking for each would cost more
	// than most of them do. So many are free on each connection.
	payEvery = 16
	// longestPause is how long a connection is not read at most. An address
	// that owes more is left.
	longestPause = 2 * time.Second
	// smallRecord is the bytes below which a record counts. A request is
	// mostly larger, a change of keys without padding is 22.
	smallRecord = 128
	// smallData is the bytes below which a frame of a body counts.
	smallData = 1 << 10
	// denseBytes are read at once where there are many pieces, so that nobody
	// owes seconds for what one read brought.
	denseBytes = 512
	// bytesForFrame is what the server writes for each frame that is free: who
	// reads much has to grant windows for it.
	bytesForFrame = 1 << 10
)

var errTooManyPieces = errors.New("the client sends too many frames or records without asking for anything")

// Slowed returns how often a connection had to wait; Ended how many were left.
func (p *Pieces) Slowed() int64 { return p.slowed.Load() }
func (p *Pieces) Ended() int64  { return p.ended.Load() }

// Records returns a listener, to be put under TLS, whose connections pay for
// small records.
func (p *Pieces) Records(inner net.Listener) net.Listener { return recordListener{inner, p} }

// Frames returns a connection that negotiated HTTP/2, before anything is read
// from it, as one that pays for frames.
func (p *Pieces) Frames(c *tls.Conn) net.Conn {
	in := splitter{head: frameHead, measure: measureFrame, skip: prefaceBytes}
	return &framesConn{piecesConn{Conn: c, pieces: p, in: in}, c}
}

// framesConn still tells HTTP/2 of the TLS underneath.
type framesConn struct {
	piecesConn
	tls *tls.Conn
}

func (c *framesConn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

type recordListener struct {
	net.Listener
	pieces *Pieces
}

func (l recordListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &piecesConn{Conn: c, pieces: l.pieces, in: splitter{head: recordHead, measure: measureRecord}}, nil
}

// piecesConn counts what is read from it.
type piecesConn struct {
	net.Conn
	pieces  *Pieces
	in      splitter
	due     int  // pieces not yet paid for
	dense   bool // whether what was read last was little else
	written atomic.Int64

	once sync.Once // by the first that pays: under a PROXY header the address is known only then
	addr netip.Addr

	mu     sync.Mutex
	closed bool
	wake   chan struct{} // while it pauses; closed by Close
}

// Raw returns the connection underneath.
func (c *piecesConn) Raw() net.Conn { return c.Conn }

func (c *piecesConn) Read(p []byte) (int, error) {
	if c.due >= payEvery {
		if err := c.pay(); err != nil {
			return 0, err
		}
	}
	if c.dense {
		p = p[:min(len(p), denseBytes)]
	}
	n, err := c.Conn.Read(p)
	pieces := c.in.count(p[:n])
	c.due += pieces
	c.dense = pieces*smallRecord > n
	return n, err
}

func (c *piecesConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// pay takes tokens for what was read, and waits until the address has none to
// pay back.
func (c *piecesConn) pay() error {
	c.once.Do(func() {
		if c.addr = connAddr(c.Conn); c.pieces.Clients.trusts(c.addr) {
			c.addr = netip.Addr{}
		}
	})
	free := min(c.written.Load()/bytesForFrame, int64(c.due))
	c.written.Add(-free * bytesForFrame)
	n := c.due - int(free)
	c.due = 0
	wait, err := c.pieces.pay(c.addr, n)
	if wait > 0 {
		c.pause(wait)
	}
	return err
}

// pay returns how long the connection is to wait, or that it is to end.
func (p *Pieces) pay(addr netip.Addr, n int) (time.Duration, error) {
	wait := p.Limiter.spend(addr, n, longestPause, time.Now())
	if wait <= 0 {
		return 0, nil
	}
	p.slowed.Add(1)
	if p.DryRun {
		return 0, nil
	}
	if wait > longestPause {
		p.ended.Add(1)
		return 0, errTooManyPieces
	}
	return wait, nil
}

// pause waits for so long, or until the connection is closed.
func (c *piecesConn) pause(d time.Duration) {
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
func (c *piecesConn) Close() error {
	c.mu.Lock()
	if !c.closed && c.wake != nil {
		close(c.wake)
	}
	c.closed = true
	c.mu.Unlock()
	return c.Conn.Close()
}

// The shapes of RFC 8446 and RFC 9113.
const (
	recordHead   = 5
	frameHead    = 9
	prefaceBytes = 24 // "PRI * HTTP/2.0…"
	frameData    = 0
)

// splitter finds pieces in a stream: each is a head that says how much follows.
type splitter struct {
	head    int // bytes
	measure func(head []byte) (length int, counts bool)

	buf  [frameHead]byte
	have int // bytes of the head in buf
	skip int // bytes that are no head
}

// count goes on through the stream and returns how many pieces that count
// began in p.
func (s *splitter) count(p []byte) (n int) {
	for len(p) > 0 {
		if s.skip > 0 {
			k := min(s.skip, len(p))
			p, s.skip = p[k:], s.skip-k
			continue
		}
		k := copy(s.buf[s.have:s.head], p)
		p, s.have = p[k:], s.have+k
		if s.have < s.head {
			break
		}
		length, counts := s.measure(s.buf[:s.head])
		if counts {
			n++
		}
		s.have, s.skip = 0, length
	}
	return n
}

func measureRecord(head []byte) (length int, counts bool) {
	length = int(binary.BigEndian.Uint16(head[3:]))
	return length, length < smallRecord
}

func measureFrame(head []byte) (length int, counts bool) {
	length = int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	return length, head[3] != frameData || length < smallData
}
