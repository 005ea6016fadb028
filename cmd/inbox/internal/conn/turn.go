package conn

import (
	"crypto/tls"
	"io"
	"net"
	"time"
)

// ALPNTURN is the ALPN protocol of TURN (RFC 7443). Browsers do not offer it for turns: URLs,
// but no protocol at all.
const ALPNTURN = "stun.turn"

// serveTURN starts to serve a connection of TURN. It returns at once.
func (s *Server) serveTURN(c net.Conn) {
	go func() {
		defer c.Close()
		defer logPanic(c, s.http1.ErrorLog)
		s.turn(c)
	}()
}

// detect returns what serves a connection without ALPN: TURN if its first byte is below 4, as
// of any STUN message (RFC 8489, section 5), and HTTP/1.1 otherwise.
func (s *Server) detect(http1 *handover) func(*tls.Conn) {
	if s.turn == nil {
		return func(c *tls.Conn) { http1.give(c) }
	}
	return func(c *tls.Conn) {
		first, ok := s.handshakes.firstByte(c)
		switch {
		case !ok:
			c.Close()
		case first < 4:
			s.serveTURN(&unreadConn{c, first, true})
		default:
			http1.give(&unreadConn{c, first, true})
		}
	}
}

// firstByte reads the first byte after a handshake within the timeout of the handshake. Until
// then it counts as one in progress.
func (h *handshakes) firstByte(c net.Conn) (first byte, ok bool) {
	if !h.begin(c) {
		return 0, false
	}
	defer h.end(c)
	if h.timeout > 0 {
		_ = c.SetReadDeadline(time.Now().Add(h.timeout)) // fails on a closed connection, as the read will
	}
	var b [1]byte
	_, err := io.ReadFull(c, b[:])
	_ = c.SetReadDeadline(time.Time{})
	return b[0], h.end(c) && err == nil
}

// unreadConn is a TLS connection whose first byte was read.
type unreadConn struct {
	*tls.Conn
	first  byte
	unread bool
}

// NetConn returns the connection underneath.
func (c *unreadConn) NetConn() net.Conn { return c.Conn }

func (c *unreadConn) Read(p []byte) (int, error) {
	if !c.unread || len(p) == 0 {
		return c.Conn.Read(p)
	}
	c.unread = false
	p[0] = c.first
	return 1, nil
}
