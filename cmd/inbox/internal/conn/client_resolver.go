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
	addr, _ := c.client(r, infoOf(r))
	return addr
}

// Fields returns the header fields that determine the client of a request, in canonical form.
func (c *ClientResolver) Fields() []string { return []string{c.clientIP.Field()} }

// Payer returns the client and network whose quotas the request counts against, as
// [ratelimit.Payer] does.
func (c *ClientResolver) Payer(r *http.Request) inbox.Payer {
	info := infoOf(r)
	addr, single := c.client(r, info)
	if !single {
		return c.payerFor(addr)
	}
	return info.payer
}

// Client returns the client of a connection, which remembers the buckets of its address; nil for
// the requests of a proxy, whose clients differ.
func (c *ClientResolver) Client(r *http.Request) *ratelimit.Client {
	info := infoOf(r)
	if _, single := c.client(r, info); !single {
		return nil
	}
	return info.client
}

// client returns the address, and whether the connection, whose information can be nil, is known
// to have a single client.
func (c *ClientResolver) client(r *http.Request, info *Info) (addr netip.Addr, single bool) {
	if info == nil {
		return c.clientIP.Addr(r), false
	}
	info.once.Do(func() {
		info.isProxy = c.clientIP.TrustsPeer(r.RemoteAddr)
		info.client = ratelimit.NewClient(c.clientIP.Addr(r))
		info.payer = c.payerFor(info.client.Addr())
	})
	if info.isProxy {
		return c.clientIP.Addr(r), false
	}
	return info.client.Addr(), true
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
	addr, _ := c.client(r, info)
	now := time.Since(c.start)
	if last := info.lastOwner.Load(); last != nil && last.is(name, addr, now-interval) {
		return false
	}
	info.lastOwner.Store(&ownerSeen{name, addr, now})
	return true
}

// IsRecordedOwner reports whether [ClientResolver.ShouldRecordOwner] recorded the client as
// the name's owner less than ttl ago, for the same connection and as the last owner there.
func (c *ClientResolver) IsRecordedOwner(r *http.Request, name string, ttl time.Duration) bool {
	info := infoOf(r)
	if info == nil {
		return false
	}
	addr, _ := c.client(r, info)
	last := info.lastOwner.Load()
	return last != nil && last.is(name, addr, time.Since(c.start)-ttl)
}
