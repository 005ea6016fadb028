package ratelimit

import (
	"net/netip"
	"sync"
)

// Client is an address of which a connection remembers the buckets, so that a token needs no
// lookup. It remembers those of the first [Limiter] that it is used with. A bucket that the
// limiter has evicted is looked up again, so a client gets no other tokens than its address. All
// methods can be called concurrently.
type Client struct {
	addr netip.Addr

	once    sync.Once // guards limiter and buckets
	limiter *Limiter
	buckets addrEntries
}

// NewClient returns the client with an address. A client without a valid one is not limited.
func NewClient(addr netip.Addr) *Client { return &Client{addr: addr} }

// Addr returns the client's address.
func (c *Client) Addr() netip.Addr { return c.addr }

// entries returns the client's entries in the limiter.
func (c *Client) entries(l *Limiter) *addrEntries {
	c.once.Do(func() { c.limiter, c.buckets = l, l.entries(c.addr) })
	if c.limiter == l {
		return &c.buckets
	}
	entries := l.entries(c.addr)
	return &entries
}
