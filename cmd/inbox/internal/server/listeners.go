package server

import (
	"fmt"
	"net"
	"sync/atomic"

	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/limits"
	"inbox/cmd/inbox/internal/proxywarn"
	"inbox/internal/netconn"
)

// wrapListener adds the layers below TLS to a bound socket, from the socket up. The steps
// above them are those of [conn.Server].
func wrapListener(socket net.Listener, lim *limits.Limits, proxies *proxywarn.Warnings, overTLS bool) (net.Listener, *acceptProbe) {
	probe := &acceptProbe{seen: -1}
	l := socket
	for _, layer := range []struct {
		on   bool
		wrap func(inner net.Listener) net.Listener
	}{
		{true, probe.listener},        // observes the accept loop
		{true, netconn.FetchListener}, // lets WebSockets wait without a buffer
		{true, lim.Conns.Listener},    // limits connections: in total, per address, per second
		{proxies.ProxyProtocol, func(inner net.Listener) net.Listener {
			return conn.ProxyListener(inner, proxies.ClientIP, proxies.OnProxyHeader, proxies.OnRefused)
		}},
		{proxies.ProxyProtocol, lim.Conns.ClientListener}, // limits connections per client of a proxy
		{overTLS, lim.Frames.RecordListener},              // limits small TLS records
		{overTLS, lim.Unfinished.HandshakeListener},       // limits the memory of unfinished handshakes
		{overTLS, lim.Handshakes.Listener},                // limits concurrent handshakes per address
		// Moves deadlines only when needed, and ends responses that the client does not read.
		{true, func(inner net.Listener) net.Listener {
			return conn.LazyListener(inner, lim.Writes, proxies.OnFirstBytes(overTLS))
		}},
		{!overTLS, lim.Unfinished.HeaderListener}, // limits the memory of unfinished headers
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
