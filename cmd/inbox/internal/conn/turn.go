package conn

import (
	"crypto/tls"
	"io"
	"net"
	"time"

	"inbox/ratelimit"
)

// ALPNTURN is the ALPN protocol of TURN (RFC 7443). Browsers do not offer it for turns: URLs,
// but no protocol at all.
const ALPNTURN = "stun.turn"

// serveTURN starts to serve a connection of TURN. It returns at once.
func (s *Server) serveTURN(c *dataConn) {
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
		d := &dataConn{Conn: c, onData: ratelimit.OnData(c)}
		switch ok := s.handshakes.readFirst(d); {
		case !ok:
			c.Close()
		case d.first < 4:
			s.serveTURN(d)
		default:
			http1.give(d)
		}
	}
}

// readFirst reads the first byte after a handshake within what is left of its timeout. Until then
// it counts as one in progress.
func (h *handshakes) readFirst(c *dataConn) bool {
	if !h.begin(c) {
		return false
	}
	defer h.end(c)
	_ = c.SetReadDeadline(h.deadline(c)) // fails on a closed connection, as the read will
	var b [1]byte
	_, err := io.ReadFull(c, b[:])
	_ = c.SetReadDeadline(time.Time{})
	c.first, c.unread = b[0], true
	return h.end(c) && err == nil
}

// dataConn is a TLS connection without HTTP/2 whose first byte can be put back.
type dataConn struct {
	*tls.Conn
	onData func()
	first  byte
	unread bool // first
}

// NetConn returns the connection underneath.
func (c *dataConn) NetConn() net.Conn { return c.Conn }

func (c *dataConn) Read(p []byte) (int, error) {
	if c.unread && len(p) > 0 {
		c.unread = false
		p[0] = c.first
		return 1, nil
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.onData()
	}
	return n, err
}
