package conn

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"inbox/internal/netconn"
)

// http2IdleBesideWebSocket is how long an HTTP/2 connection can be idle while its client has a
// WebSocket. A page loads over HTTP/2, and then exchanges everything on a WebSocket, for which
// browsers open a connection of HTTP/1.1; the first one would take four times the memory of the
// second until its idle timeout.
const http2IdleBesideWebSocket = 5 * time.Second

// pageClients knows which clients have both a WebSocket and HTTP/2 connections, and tells idle ones
// of the latter to leave. Clients are addresses: of two browsers behind one, the other may reconnect
// for its next request. Proxies, whose connections have many clients, are left out. All methods can
// be called concurrently.
type pageClients struct {
	idle    time.Duration
	isProxy func(remoteAddr string) bool

	mu      sync.Mutex
	clients map[netip.Addr]*pageClient
}

// pageClient is a client with connections.
type pageClient struct {
	webSockets int
	http2      map[*http2Conn]struct{} // nil without any
	checking   bool                    // a check is scheduled
}

func newPageClients(isProxy func(remoteAddr string) bool) *pageClients {
	return &pageClients{idle: http2IdleBesideWebSocket, isProxy: isProxy, clients: make(map[netip.Addr]*pageClient)}
}

// addrOf returns the address of a client, or an invalid one for a proxy or a Unix socket.
func (p *pageClients) addrOf(c net.Conn) netip.Addr {
	remote := c.RemoteAddr().String()
	addr, err := netip.ParseAddrPort(remote)
	if err != nil || p.isProxy(remote) {
		return netip.Addr{}
	}
	return addr.Addr().Unmap()
}

// change changes what is known of a client, which is forgotten when it has no connections. Then it
// schedules a check if one is due.
func (p *pageClients) change(addr netip.Addr, f func(*pageClient)) {
	if !addr.IsValid() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.clients[addr]
	if c == nil {
		c = &pageClient{}
		p.clients[addr] = c
	}
	f(c)
	switch {
	case c.webSockets == 0 && len(c.http2) == 0:
		delete(p.clients, addr)
	case c.webSockets > 0 && len(c.http2) > 0 && !c.checking:
		c.checking = true
		time.AfterFunc(p.idle, func() { p.check(addr) })
	}
}

func (p *pageClients) addHTTP2(addr netip.Addr, h *http2Conn) {
	p.change(addr, func(c *pageClient) {
		if c.http2 == nil {
			c.http2 = make(map[*http2Conn]struct{})
		}
		c.http2[h] = struct{}{}
	})
}

func (p *pageClients) removeHTTP2(addr netip.Addr, h *http2Conn) {
	p.change(addr, func(c *pageClient) { delete(c.http2, h) })
}

// check sends GOAWAY on the HTTP/2 connections of a client that are idle beside a WebSocket. It is
// called again while any is left.
func (p *pageClients) check(addr netip.Addr) {
	var leaving []*http2Conn
	p.change(addr, func(c *pageClient) {
		c.checking = false
		before := time.Now().Add(-p.idle).UnixNano()
		for h := range c.http2 {
			if at := h.idleSince.Load(); c.webSockets > 0 && at > 0 && at <= before {
				leaving = append(leaving, h)
				delete(c.http2, h)
			}
		}
	})
	for _, h := range leaving {
		h.goAway()
	}
}

// listener returns a listener that counts the connections of inner that become WebSockets.
func (p *pageClients) listener(inner net.Listener) net.Listener {
	return netconn.Wrap(inner, func(c net.Conn) net.Conn { return &upgradableConn{Conn: c, clients: p} })
}

// upgradableConn is a connection that can become a WebSocket.
type upgradableConn struct {
	net.Conn
	clients *pageClients

	mu   sync.Mutex
	addr netip.Addr // of a WebSocket that is open
}

// NetConn returns the connection underneath, as tls.Conn does.
func (c *upgradableConn) NetConn() net.Conn { return c.Conn }

// Hijacked notes that the connection is a WebSocket: over TLS, HTTP/1.1 upgrades to nothing else.
func (c *upgradableConn) Hijacked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if addr := c.clients.addrOf(c.Conn); !c.addr.IsValid() {
		c.addr = addr
		c.clients.change(addr, func(p *pageClient) { p.webSockets++ })
	}
}

// Close closes the connection.
func (c *upgradableConn) Close() error {
	c.mu.Lock()
	addr := c.addr
	c.addr = netip.Addr{}
	c.mu.Unlock()
	c.clients.change(addr, func(p *pageClient) { p.webSockets-- })
	return c.Conn.Close()
}
