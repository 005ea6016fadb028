package conn

import (
	"net"
	"time"

	"inbox/internal/netconn"
	"inbox/ratelimit"

	"github.com/pires/go-proxyproto"
)

// proxyHeaderTimeout bounds how long a trusted proxy takes to send the PROXY header.
const proxyHeaderTimeout = 5 * time.Second

// ProxyListener returns a listener whose connections begin with a PROXY header, which has
// their client's address. The goroutine of a connection reads the header, so Accept does not
// block. A trusted proxy must send the header. Other peers are refused, because they could
// claim any address. OnFirst is called with what a proxy sends first, and onRefused with a peer
// that is refused.
func ProxyListener(inner net.Listener, clientIP *ratelimit.ClientIP, onFirst OnFirstBytes, onRefused func(net.Addr)) net.Listener {
	wrap := func(c net.Conn) net.Conn {
		if peer := c.RemoteAddr(); !clientIP.TrustsPeer(peer.String()) {
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
