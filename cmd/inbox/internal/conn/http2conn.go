package conn

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

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
	position frameReader
	inserted []byte // still to be read
	told     bool   // GOAWAY was inserted
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
		if c.leaving.Load() && !c.told && c.position.isBetweenFrames() {
			c.told, c.inserted = true, []byte(goAwayFrame)
		}
		if len(c.inserted) > 0 {
			n := copy(p, c.inserted)
			c.inserted = c.inserted[n:]
			return n, nil
		}
		n, err := c.Conn.Read(p)
		c.position.add(p[:n])
		// HTTP/2 servers set no deadline for reads, and TLS can be read after one.
		if n > 0 || !c.leaving.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			return 0, err
		}
	}
}

// frameReader follows the frames that a client sends, to know where one ends. The zero value is at
// the start of a connection.
type frameReader struct {
	prefaceBytes int  // of the client preface, so far
	begun        bool // there was a frame
	headerBytes  int  // of the header of a frame
	length       [3]byte
	payloadBytes int // still to come
}

const frameHeaderBytes = 9

// isBetweenFrames reports whether the next byte begins a frame that is not the first.
func (f *frameReader) isBetweenFrames() bool {
	return f.begun && f.headerBytes == 0 && f.payloadBytes == 0
}

func (f *frameReader) add(p []byte) {
	n := min(len(http2.ClientPreface)-f.prefaceBytes, len(p))
	f.prefaceBytes += n
	for p = p[n:]; len(p) > 0; {
		if f.payloadBytes > 0 {
			n := min(f.payloadBytes, len(p))
			f.payloadBytes -= n
			p = p[n:]
			continue
		}
		f.addHeader(p[0])
		p = p[1:]
	}
}

func (f *frameReader) addHeader(b byte) {
	f.begun = true
	if f.headerBytes < len(f.length) {
		f.length[f.headerBytes] = b
	}
	if f.headerBytes++; f.headerBytes == frameHeaderBytes {
		f.headerBytes = 0
		f.payloadBytes = int(f.length[0])<<16 | int(f.length[1])<<8 | int(f.length[2])
	}
}
