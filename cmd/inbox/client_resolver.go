package main

import (
	"crypto/hmac"
	"crypto/sha256"
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
	if !addr.IsValid() {
		return inbox.Payer{}
	}
	payer := inbox.Payer{Client: c.hash(ratelimit.Prefix(addr))}
	if addr.Is6() {
		payer.Network = c.hash(prefixOf(addr, 32, 48))
	}
	return payer
}

// hash tells nobody which prefix it is of: HMAC-SHA256, of which half is plenty.
func (c *clientResolver) hash(prefix netip.Prefix) string {
	mac := hmac.New(sha256.New, c.key)
	b, _ := prefix.MarshalBinary() // of a valid prefix: cannot fail
	mac.Write(b)
	return string(mac.Sum(nil)[:16])
}

// prefixOf returns the network of an address, with an IPv4-mapped address as IPv4.
func prefixOf(a netip.Addr, bits4, bits6 int) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := bits6
	if a.Is4() {
		bits = bits4
	}
	p, _ := a.Prefix(bits) // fails only for too many bits
	return p
}
