package conn

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"inbox/internal/splitter"

	"golang.org/x/net/http2"
)

// http2Conn is a connection that an HTTP/2 server reads, and that can make it send GOAWAY: its
// reader then receives a GOAWAY of the client, upon which the server ends the connection gracefully
// (RFC 9113, section 6.8). Servers have no function for this.
type http2Conn struct {
	net.Conn
	tls       *tls.Conn
	addr      netip.Addr   // for pageClients
	idleSince atomic.Int64 // in Unix nanoseconds; 0 if active

	leaving atomic.Bool // goAway was called

	// Of the reader.
	frames   splitter.Splitter
	begun    bool   // there was a frame
	inserted []byte // still to be read
	told     bool   // GOAWAY was inserted
}

func newHTTP2Conn(c net.Conn) *http2Conn {
	return &http2Conn{Conn: c, frames: splitter.Splitter{
		HeaderBytes: splitter.MaxHeaderBytes, Measure: measureFrame, Skip: len(http2.ClientPreface),
	}}
}

func measureFrame(header []byte) (length int, counts bool) {
	return int(header[0])<<16 | int(header[1])<<8 | int(header[2]), true
}

// goAwayFrame is a GOAWAY with NO_ERROR and the last stream 0: the server pushes none.
const goAwayFrame = "\x00\x00\x08\x07\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

// NetConn returns the connection underneath, as tls.Conn does.
func (c *http2Conn) NetConn() net.Conn { return c.Conn }

// ConnectionState implements the method that HTTP servers look for.
func (c *http2Conn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// goAway makes the server send GOAWAY. It can be called at any time.
func (c *http2Conn) goAway() {
	c.leaving.Store(true)
	_ = c.SetReadDeadline(time.Unix(1, 0)) // interrupts a read that waits; fails on a closed connection
}

// Read implements [net.Conn].
func (c *http2Conn) Read(p []byte) (int, error) {
	for {
		if c.leaving.Load() && !c.told && c.begun && c.frames.Incomplete() == 0 {
			c.told, c.inserted = true, []byte(goAwayFrame)
		}
		if len(c.inserted) > 0 {
			n := copy(p, c.inserted)
			c.inserted = c.inserted[n:]
			return n, nil
		}
		n, err := c.Conn.Read(p)
		c.begun = c.frames.Count(p[:n]) > 0 || c.begun
		// HTTP/2 servers set no deadline for reads, and TLS can be read after one.
		if n > 0 || !c.leaving.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			return 0, err
		}
	}
}
