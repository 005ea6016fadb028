package conn

import (
	"net"
	"time"

	"inbox/ratelimit"

	"github.com/pires/go-proxyproto"
)

// proxyHeaderTimeout bounds how long a trusted proxy takes to send the PROXY header.
const proxyHeaderTimeout = 5 * time.Second

// ProxyListener returns a listener whose connections begin with a PROXY header, which has
// their client's address. The goroutine of a connection reads the header, so Accept does not
// block. A trusted proxy must send the header. Other peers are refused, because they could
// claim any address.
func ProxyListener(inner net.Listener, clientIP *ratelimit.ClientIP) net.Listener {
	policy := func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
		if clientIP.TrustsPeer(o.Upstream.String()) {
			return proxyproto.REQUIRE, nil
		}
		return proxyproto.REJECT, proxyproto.ErrInvalidUpstream
	}
	return proxyListener{&proxyproto.Listener{Listener: inner, ReadHeaderTimeout: proxyHeaderTimeout, ConnPolicy: policy}}
}

type proxyListener struct{ *proxyproto.Listener }

func (l proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if p, ok := c.(*proxyproto.Conn); ok {
		return proxyConn{p}, err
	}
	return c, err
}

// proxyConn can be unwrapped as all other connections.
type proxyConn struct{ *proxyproto.Conn }

// NetConn returns the connection underneath, as tls.Conn does.
func (c proxyConn) NetConn() net.Conn { return c.Raw() }
