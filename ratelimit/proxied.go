package ratelimit

import (
	"io"
	"net"
	"sync"

	"inbox/internal/netconn"
)

// ClientListener returns a listener that applies the limits of an address to the clients of
// trusted proxies that name them in a PROXY header. It belongs above the layer that reads the
// header, which belongs above [ConnLimiter.Listener].
//
// Accept does not wait for the header. The first read or write of a connection does, and
// returns [io.EOF] if the client is refused. No refused connection is kept open, because it
// would occupy the proxy.
func (l *ConnLimiter) ClientListener(inner net.Listener) net.Listener {
	return netconn.Wrap(inner, func(c net.Conn) net.Conn {
		counted, ok := netconn.Find[*conn](c)
		if !ok || counted.addr.IsValid() { // counts for its address already
			return c
		}
		return &clientConn{Conn: c, limiter: l, counted: counted}
	})
}

// clientConn counts for the client that its PROXY header names.
type clientConn struct {
	net.Conn
	limiter *ConnLimiter
	counted *conn

	once    sync.Once
	refused bool
}

// NetConn returns the connection underneath, as tls.Conn does.
func (c *clientConn) NetConn() net.Conn { return c.Conn }

func (c *clientConn) Read(p []byte) (int, error) {
	if c.once.Do(c.admit); c.refused {
		return 0, io.EOF
	}
	return c.Conn.Read(p)
}

func (c *clientConn) Write(p []byte) (int, error) {
	if c.once.Do(c.admit); c.refused {
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

// admit waits for the header and closes the connection if the client is refused.
func (c *clientConn) admit() {
	addr := connAddr(c.Conn)
	if !addr.IsValid() || c.limiter.clientIP.trusts(addr) {
		return // a check of the proxy itself, or no client named
	}
	if c.refused = !c.counted.countFor(addr); c.refused {
		c.Conn.Close()
	}
}
