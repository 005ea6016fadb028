package conn

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"time"

	"inbox/internal/netconn"
	"inbox/ratelimit"

	"github.com/pires/go-proxyproto"
)

// proxyHeaderTimeout bounds how long a trusted proxy takes to send the PROXY header.
const proxyHeaderTimeout = 5 * time.Second

// LocalHeader is the PROXY header, version 2, of a connection that a proxy makes for itself, such
// as a health check. It names no client, so it is safe from a peer that is not trusted.
const LocalHeader = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

// SendLocalHeader sends LocalHeader on a new connection, before the deadline of ctx.
func SendLocalHeader(ctx context.Context, c net.Conn) error {
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetWriteDeadline(deadline) // fails on a closed connection, as the write will
	}
	_, err := io.WriteString(c, LocalHeader)
	_ = c.SetWriteDeadline(time.Time{})
	return err
}

// ProxyListener returns a listener whose connections begin with a PROXY header, which has
// their client's address. The goroutine of a connection reads the header, so Accept does not
// block. A trusted proxy must send the header. Other peers are refused, because they could
// claim any address, except for [LocalHeader] from a loopback address. OnFirst is called with what
// a proxy sends first, and onRefused with a peer that is refused.
func ProxyListener(inner net.Listener, clientIP *ratelimit.ClientIP, onFirst OnFirstBytes, onRefused func(net.Addr)) net.Listener {
	wrap := func(c net.Conn) net.Conn {
		peer := c.RemoteAddr()
		switch trusted := clientIP.TrustsPeer(peer.String()); {
		case !trusted && ratelimit.ParseAddr(peer.String()).IsLoopback():
			return &localConn{Conn: c, onRefused: onRefused}
		case !trusted:
			onRefused(peer)
			c.Close() // its error is that of one peer: were it that of Accept, it would end the server
			return nil
		}
		return &firstBytesConn{c, onFirst}
	}
	require := func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) { return proxyproto.REQUIRE, nil }
	return &proxyproto.Listener{Listener: netconn.Wrap(inner, wrap), ReadHeaderTimeout: proxyHeaderTimeout, ConnPolicy: require}
}

// firstBytesConn reports what its first read returns, as lazyConn does.
type firstBytesConn struct {
	net.Conn
	onFirst OnFirstBytes // nil after the first read
}

func (c *firstBytesConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.onFirst != nil {
		c.onFirst(c.RemoteAddr(), p[:n])
		c.onFirst = nil
	}
	return n, err
}

// NetConn returns the connection underneath, as tls.Conn does.
func (c *firstBytesConn) NetConn() net.Conn { return c.Conn }

var errNotLocal = errors.New("a peer that is not trusted claims the address of a client")

// localConn is a connection that must begin with LocalHeader. It is closed if it does not.
type localConn struct {
	net.Conn
	onRefused func(net.Addr)
	header    [len(LocalHeader)]byte
	received  int // bytes of the header
}

func (c *localConn) Read(p []byte) (int, error) {
	if c.received == len(LocalHeader) {
		return c.Conn.Read(p)
	}
	n, err := c.Conn.Read(p[:min(len(p), len(LocalHeader)-c.received)])
	c.received += copy(c.header[c.received:], p[:n])
	if !bytes.HasPrefix([]byte(LocalHeader), c.header[:c.received]) {
		c.onRefused(c.RemoteAddr())
		c.Close()
		return 0, errNotLocal
	}
	return n, err
}

// NetConn returns the connection underneath, as tls.Conn does.
func (c *localConn) NetConn() net.Conn { return c.Conn }
