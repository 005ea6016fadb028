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
	// MaxBytes bounds the memory of the open connections, which clients divide as they divide
	// Max. Each counts for BytesEach, and for HijackedBytes as of [netconn.Hijacked]. Zero is no
	// limit.
	MaxBytes, BytesEach, HijackedBytes int64
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
	Bytes    int64 // that these count for
	Accepted int64
	// Refused, by the limit exceeded: Max or MaxBytes, MaxPerAddr or a share, or Rate.
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
	memory    *Share // in bytes
	tarpitted atomic.Int64
	stats     struct{ accepted, total, addr, rate atomic.Int64 }
}

// NewConnLimiter returns a limiter. Peers that clientIP trusts are proxies with many clients
// behind them, so only Max applies to them.
func NewConnLimiter(limits ConnLimits, clientIP *ClientIP) *ConnLimiter {
	open := ShareLimits{Ceiling: int64(limits.Max), MinPerClient: minConnsPerAddr, MaxPerClient: int64(limits.MaxPerAddr), DryRun: limits.DryRun}
	memory := ShareLimits{Ceiling: limits.MaxBytes, MinPerClient: minConnsPerAddr * limits.BytesEach, DryRun: limits.DryRun}
	if limits.MaxPerAddr <= 0 || limits.MaxPerAddr >= limits.Max {
		open.MinPerClient, memory.MinPerClient = open.Ceiling, memory.Ceiling // one address may take all
	}
	return &ConnLimiter{limits: limits, clientIP: clientIP, rate: NewLimiter(limits.Rate, 0), open: NewShare(open), memory: NewShare(memory)}
}

// Stats returns the counts.
func (l *ConnLimiter) Stats() ConnStats {
	return ConnStats{
		Open: l.open.Used(), Bytes: l.memory.Used(), Accepted: l.stats.accepted.Load(),
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
	return &conn{Conn: c, limiter: l, addr: addr, bytes: l.limits.BytesEach}
}

// reserve takes a slot for an address; an invalid one counts only in total.
func (l *ConnLimiter) reserve(addr netip.Addr) bool {
	if addr.IsValid() && !l.rate.Take(addr, time.Now()).OK && !l.countRefusal(&l.stats.rate) {
		return false
	}
	if !l.reserveFrom(l.open, addr, 1) {
		return false
	}
	if l.limits.MaxBytes > 0 && !l.reserveFrom(l.memory, addr, l.limits.BytesEach) {
		l.open.Release(addr, 1)
		return false
	}
	return true
}

func (l *ConnLimiter) reserveFrom(share *Share, addr netip.Addr, n int64) bool {
	switch share.reserve(addr, n) {
	case overCeiling:
		l.stats.total.Add(1) // a dry run does not lift it: it protects the server
		return false
	case overShare:
		return l.countRefusal(&l.stats.addr)
	}
	return true
}

// release returns the slot of a connection that counts for some bytes.
func (l *ConnLimiter) release(addr netip.Addr, bytes int64) {
	l.open.Release(addr, 1)
	if l.limits.MaxBytes > 0 {
		l.memory.Release(addr, bytes)
	}
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
	bytes    int64      // that the connection counts for
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
	limiter, addr, bytes := c.limiter, c.addr, c.bytes // the closure must not keep c, which holds more memory
	if delay := time.Duration(c.releaseDelay.Load()); delay > 0 {
		time.AfterFunc(delay, func() { limiter.release(addr, bytes) })
	} else {
		limiter.release(addr, bytes)
	}
	return err
}

// Hijacked makes an open connection count for the memory of one without HTTP.
func (c *conn) Hijacked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if less := c.bytes - c.limiter.limits.HijackedBytes; c.limiter.limits.MaxBytes > 0 && !c.released && less > 0 {
		c.limiter.memory.Release(c.addr, less)
		c.bytes -= less
	}
}

// countFor moves the slot of an open connection to an address, and reports whether the
// address may have it.
func (c *conn) countFor(addr netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.released {
		return false
	}
	c.limiter.release(c.addr, c.bytes)
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
