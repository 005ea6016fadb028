package main

import (
	"net/http"
	"net/netip"

	"inbox/inbox"
	"inbox/ratelimit"
)

// clientResolver says which address a request comes from and who pays for it. It works
// that out once for a connection, unless that is a proxy's.
type clientResolver struct {
	clientIP *ratelimit.ClientIP
	key      []byte // keys the payers, which are in snapshots, too
}

func newClientResolver(clientIP *ratelimit.ClientIP, key []byte) *clientResolver {
	return &clientResolver{clientIP, key}
}

// addr is the client's address, invalid behind a Unix socket that says nothing.
func (c *clientResolver) addr(r *http.Request) netip.Addr {
	addr, _ := c.client(r)
	return addr
}

// payer is whom the request counts against: an IPv4 address or an IPv6 /64,
// and the /48 around that.
func (c *clientResolver) payer(r *http.Request) inbox.Payer {
	addr, p := c.client(r)
	if p == nil {
		return c.payerFor(addr)
	}
	return p.payer
}

// client returns the address, and the connection when it has one client.
func (c *clientResolver) client(r *http.Request) (netip.Addr, *connInfo) {
	p, ok := r.Context().Value(connInfoKey{}).(*connInfo)
	if !ok {
		return c.clientIP.Addr(r), nil
	}
	p.once.Do(func() {
		p.isProxy = c.clientIP.TrustsPeer(r.RemoteAddr)
		p.addr = c.clientIP.Addr(r)
		p.payer = c.payerFor(p.addr)
	})
	if p.isProxy {
		return c.clientIP.Addr(r), nil
	}
	return p.addr, p
}

func (c *clientResolver) payerFor(addr netip.Addr) inbox.Payer {
	client, network := ratelimit.Payer(c.key, addr)
	return inbox.Payer{Client: client, Network: network}
}
