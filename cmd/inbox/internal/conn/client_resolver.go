package conn

import (
	"net/http"
	"net/netip"
	"time"

	"inbox/inbox"
	"inbox/ratelimit"
)

// ClientResolver determines the client of a request: its address and its payer. It does so
// once per connection, except for connections of proxies. All methods can be called
// concurrently.
type ClientResolver struct {
	clientIP *ratelimit.ClientIP
	key      []byte
	start    time.Time
}

// NewClientResolver returns a resolver. The key hashes payers, which snapshots and stores
// contain.
func NewClientResolver(clientIP *ratelimit.ClientIP, key []byte) *ClientResolver {
	return &ClientResolver{clientIP, key, time.Now()}
}

// Addr returns the client's address, as [ratelimit.ClientIP.Addr] does.
func (c *ClientResolver) Addr(r *http.Request) netip.Addr {
	addr, _ := c.client(r)
	return addr
}

// Payer returns the client and network whose quotas the request counts against, as
// [ratelimit.Payer] does.
func (c *ClientResolver) Payer(r *http.Request) inbox.Payer {
	addr, info := c.client(r)
	if info == nil {
		return c.payerFor(addr)
	}
	return info.payer
}

// client returns the address, and the connection's information if it has one client.
func (c *ClientResolver) client(r *http.Request) (netip.Addr, *Info) {
	info := infoOf(r)
	if info == nil {
		return c.clientIP.Addr(r), nil
	}
	info.once.Do(func() {
		info.isProxy = c.clientIP.TrustsPeer(r.RemoteAddr)
		info.addr = c.clientIP.Addr(r)
		info.payer = c.payerFor(info.addr)
	})
	if info.isProxy {
		return c.clientIP.Addr(r), nil
	}
	return info.addr, info
}

func (c *ClientResolver) payerFor(addr netip.Addr) inbox.Payer {
	client, network := ratelimit.Payer(c.key, addr)
	return inbox.Payer{Client: client, Network: network}
}

// ShouldRecordOwner reports whether a client that sent the password of a name should be
// recorded as the name's owner. It is false if that was reported less than interval ago for
// the same connection, so that a client that polls is not recorded with each request.
func (c *ClientResolver) ShouldRecordOwner(r *http.Request, name string, interval time.Duration) bool {
	info := infoOf(r)
	if info == nil {
		return true
	}
	if c.IsRecordedOwner(r, name, interval) {
		return false
	}
	info.lastOwner.Store(&ownerSeen{name, c.Addr(r), time.Since(c.start)})
	return true
}

// IsRecordedOwner reports whether [ClientResolver.ShouldRecordOwner] recorded the client as
// the name's owner less than ttl ago, for the same connection and as the last owner there.
func (c *ClientResolver) IsRecordedOwner(r *http.Request, name string, ttl time.Duration) bool {
	info := infoOf(r)
	if info == nil {
		return false
	}
	last := info.lastOwner.Load()
	return last != nil && last.name == name && last.addr == c.Addr(r) && time.Since(c.start)-last.at < ttl
}
