package server

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"

	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/limits"
	"inbox/ratelimit"
)

// wrapListener adds the layers to a bound socket, from the socket up. Without a
// tlsConfig it serves plain HTTP.
func wrapListener(socket net.Listener, lim *limits.Limits, clientIP *ratelimit.ClientIP, proxyProtocol bool,
	tlsConfig *tls.Config) (net.Listener, *acceptProbe) {
	probe := &acceptProbe{seen: -1}
	counted := func(inner net.Listener) net.Listener {
		l := ratelimit.NewListener(inner, lim.Conns, clientIP)
		lim.Register(l)
		return l
	}
	overTLS := tlsConfig != nil
	l := socket
	for _, layer := range []struct {
		on   bool
		wrap func(inner net.Listener) net.Listener
	}{
		{true, probe.listener}, // observes the accept loop
		{true, counted},        // limits connections: in total, per address, per second
		{proxyProtocol, func(inner net.Listener) net.Listener { return conn.ProxyListener(inner, clientIP) }},
		{overTLS, lim.Frames.RecordListener}, // limits small TLS records
		{overTLS, lim.Handshakes.Listener},   // limits concurrent handshakes per address
		{true, conn.LazyListener},            // moves deadlines only when needed
		{overTLS, func(inner net.Listener) net.Listener { return tls.NewListener(inner, tlsConfig) }},
	} {
		if layer.on {
			l = layer.wrap(l)
		}
	}
	return l, probe
}

// acceptProbe observes calls of Accept, so that the watchdog notices an accept loop
// that hangs.
type acceptProbe struct {
	net.Listener
	steps atomic.Int64 // calls and returns of Accept; odd during a call
	seen  int64        // steps at the last check
}

// listener returns the probe as a layer around inner.
func (p *acceptProbe) listener(inner net.Listener) net.Listener {
	p.Listener = inner
	return p
}

// Accept implements [net.Listener].
func (p *acceptProbe) Accept() (net.Conn, error) {
	p.steps.Add(1)
	defer p.steps.Add(1)
	return p.Listener.Accept()
}

// check returns an error if Accept has not been called since the last check and is
// not being called now.
func (p *acceptProbe) check() error {
	steps := p.steps.Load()
	if steps == p.seen && steps%2 == 0 {
		return fmt.Errorf("the listener at %s does not accept connections", p.Addr())
	}
	p.seen = steps
	return nil
}
