package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"net/http"
	"net/netip"

	"inbox/inbox"
	"inbox/ratelimit"
)

// who says which address a request comes from and who pays for it. It works
// that out once for a connection, unless that is a proxy's.
type who struct {
	clients *ratelimit.ClientIP
	key     []byte // keys the payers, which are in snapshots, too
}

func newWho(clients *ratelimit.ClientIP, key []byte) *who { return &who{clients, key} }

// addr is the client's address, invalid behind a Unix socket that says nothing.
func (w *who) addr(r *http.Request) netip.Addr {
	addr, _ := w.client(r)
	return addr
}

// payer is whom the request counts against: an IPv4 address or an IPv6 /64,
// and the /48 around that.
func (w *who) payer(r *http.Request) inbox.Payer {
	addr, p := w.client(r)
	if p == nil {
		return w.payerOf(addr)
	}
	return p.payer
}

// client returns the address, and the connection when it has one client.
func (w *who) client(r *http.Request) (netip.Addr, *peer) {
	p, ok := r.Context().Value(peerKey{}).(*peer)
	if !ok {
		return w.clients.Addr(r), nil
	}
	p.once.Do(func() {
		p.proxy = w.clients.TrustsPeer(r.RemoteAddr)
		p.addr = w.clients.Addr(r)
		p.payer = w.payerOf(p.addr)
	})
	if p.proxy {
		return w.clients.Addr(r), nil
	}
	return p.addr, p
}

func (w *who) payerOf(addr netip.Addr) inbox.Payer {
	if !addr.IsValid() {
		return inbox.Payer{}
	}
	payer := inbox.Payer{Client: w.hash(ratelimit.Prefix(addr))}
	if addr.Is6() {
		payer.Network = w.hash(prefixOf(addr, 32, 48))
	}
	return payer
}

// hash tells nobody which prefix it is of: HMAC-SHA256, of which half is plenty.
func (w *who) hash(prefix netip.Prefix) string {
	mac := hmac.New(sha256.New, w.key)
	b, _ := prefix.MarshalBinary() // of a valid prefix: cannot fail
	mac.Write(b)
	return string(mac.Sum(nil)[:16])
}
