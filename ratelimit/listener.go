package ratelimit

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"inbox/internal/netconn"
)

// ConnLimits bounds the connections of a [ConnLimiter]. Zero is no limit.
type ConnLimits struct {
	// Max and MaxPerAddr bound the open connections, in total and per address. A network
	// may have sixteen times MaxPerAddr. If MaxPerAddr is below Max, an address also has a
	// share of Max, which shrinks as connections open: see [Share].
	Max, MaxPerAddr int
	// Rate bounds how fast an address may open connections.
	Rate Budget
	// Tarpit delays the close of a refused connection. A client that waits for it opens
	// its next connection later.
	Tarpit time.Duration
	// MaxTarpitted bounds the refused connections that are kept open at once. Others are
	// closed immediately.
	MaxTarpitted int
	// DryRun counts refusals but refuses nothing.
	DryRun bool
}

// minConnsPerAddr is what an address can open while the reserve lasts: one connection for a
// page and one for a peer, or two of a browser that has no HTTP/2.
const minConnsPerAddr = 2

// ConnStats counts the connections of a [ConnLimiter] since it was created.
type ConnStats struct {
	Open     int64 // open now
	Accepted int64
	// Refused, by the limit exceeded: Max, MaxPerAddr or Rate.
	RefusedTotal, RefusedAddr, RefusedRate int64
}

// ConnLimiter bounds the connections of the listeners of a server, which share the limits. It
// refuses connections before it reads from them, because a TLS handshake costs a server about
// forty times what a request does. It refuses by closing. All methods can be called
// concurrently.
type ConnLimiter struct {
	limits    ConnLimits
	clientIP  *ClientIP
	rate      *Limiter
	open      *Share
	tarpitted atomic.Int64
	stats     struct{ accepted, total, addr, rate atomic.Int64 }
}

// NewConnLimiter returns a limiter. Peers that clientIP trusts are proxies with many clients
// behind them, so only Max applies to them.
func NewConnLimiter(limits ConnLimits, clientIP *ClientIP) *ConnLimiter {
	share := ShareLimits{MaxPerClient: int64(limits.MaxPerAddr), DryRun: limits.DryRun}
	if limits.Max > 0 {
		share.Ceiling, share.MinPerClient = int64(limits.Max), minConnsPerAddr
	}
	if limits.MaxPerAddr <= 0 || limits.MaxPerAddr >= limits.Max {
		share.MinPerClient = share.Ceiling // one address may take all
	}
	return &ConnLimiter{limits: limits, clientIP: clientIP, rate: NewLimiter(limits.Rate, 0), open: NewShare(share)}
}

// Stats returns the counts.
func (l *ConnLimiter) Stats() ConnStats {
	return ConnStats{
		Open: l.open.Used(), Accepted: l.stats.accepted.Load(),
		RefusedTotal: l.stats.total.Load(), RefusedAddr: l.stats.addr.Load(), RefusedRate: l.stats.rate.Load(),
	}
}

// Sweep frees memory after a flood, as [Limiter.Sweep] does.
func (l *ConnLimiter) Sweep(now time.Time) { l.rate.Sweep(now) }

// Listener returns a listener that accepts the connections of inner that are within the
// limits. Accept never returns an error for a refused client, because http.Server.Serve ends
// with any error that Accept returns.
//
// The connections have a method NetConn, as tls.Conn has, and a method
// DelayRelease(time.Duration), which makes the connection count for some time after it is
// closed.
func (l *ConnLimiter) Listener(inner net.Listener) net.Listener { return netconn.Wrap(inner, l.admit) }

// admit returns the connection as it is counted, or refuses it and returns nil.
func (l *ConnLimiter) admit(c net.Conn) net.Conn {
	addr := connAddr(c)
	if l.clientIP.trusts(addr) {
		addr = netip.Addr{}
	}
	if !l.reserve(addr) {
		l.refuse(c)
		return nil
	}
	l.stats.accepted.Add(1)
	return &conn{Conn: c, limiter: l, addr: addr}
}

// reserve takes a slot for an address; an invalid one counts only in total.
func (l *ConnLimiter) reserve(addr netip.Addr) bool {
	if addr.IsValid() && !l.rate.Take(addr, time.Now()).OK && !l.countRefusal(&l.stats.rate) {
		return false
	}
	switch l.open.reserve(addr, 1) {
	case overCeiling:
		l.stats.total.Add(1) // a dry run does not lift it: it protects the server
		return false
	case overShare:
		return l.countRefusal(&l.stats.addr)
	}
	return true
}

// countRefusal counts a refusal and reports whether a dry run admits the connection.
func (l *ConnLimiter) countRefusal(refused *atomic.Int64) bool {
	refused.Add(1)
	return l.limits.DryRun
}

// refuse closes the connection: after Tarpit if there is room to keep it open, otherwise
// immediately.
func (l *ConnLimiter) refuse(c net.Conn) {
	if l.limits.Tarpit <= 0 || l.tarpitted.Add(1) > int64(l.limits.MaxTarpitted) {
		if l.limits.Tarpit > 0 {
			l.tarpitted.Add(-1)
		}
		c.Close()
		return
	}
	time.AfterFunc(l.limits.Tarpit, func() {
		c.Close()
		l.tarpitted.Add(-1)
	})
}

// conn is a counted connection.
type conn struct {
	net.Conn
	limiter      *ConnLimiter
	releaseDelay atomic.Int64

	mu       sync.Mutex
	addr     netip.Addr // that the slot counts for; invalid if only in total
	released bool
}

// Close closes the connection and releases its slot once.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.released {
		return err
	}
	c.released = true
	open, addr := c.limiter.open, c.addr // the closure must not keep c, which holds more memory
	if delay := time.Duration(c.releaseDelay.Load()); delay > 0 {
		time.AfterFunc(delay, func() { open.Release(addr, 1) })
	} else {
		open.Release(addr, 1)
	}
	return err
}

// countFor moves the slot of an open connection to an address, and reports whether the
// address may have it.
func (c *conn) countFor(addr netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.released {
		return false
	}
	c.limiter.open.Release(c.addr, 1)
	if !c.limiter.reserve(addr) {
		c.released = true
		return false
	}
	c.addr = addr
	return true
}

// DelayRelease keeps the connection's slot for d after Close, for a server that keeps
// memory of the connection as long.
func (c *conn) DelayRelease(d time.Duration) { c.releaseDelay.Store(int64(d)) }

// NetConn returns the connection underneath, as tls.Conn does.
func (c *conn) NetConn() net.Conn { return c.Conn }
