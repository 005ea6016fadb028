package ratelimit

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ConnLimits bounds the connections of a [Listener]. Zero is no limit.
type ConnLimits struct {
	// Max and MaxPerAddr bound the open connections, in total and per address. A /48
	// may have sixteen times MaxPerAddr.
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

// ConnStats counts the connections of a [Listener] since it was created.
type ConnStats struct {
	Open     int64 // open now
	Accepted int64
	// Refused, by the limit exceeded: Max, MaxPerAddr or Rate.
	RefusedTotal, RefusedAddr, RefusedRate int64
}

// Listener refuses connections before it reads from them, because a TLS handshake costs a
// server about forty times what a request does. It refuses by closing. Accept never
// returns an error for a refused client, because http.Server.Serve ends with any error
// that Accept returns. All methods can be called concurrently.
type Listener struct {
	net.Listener
	limits    ConnLimits
	clientIP  *ClientIP
	rate      *Limiter
	open      counter
	tarpitted atomic.Int64
	stats     struct{ open, accepted, total, addr, rate atomic.Int64 }
}

// NewListener limits the connections of inner. Peers that clientIP trusts are proxies with
// many clients behind them, so only Max applies to them.
func NewListener(inner net.Listener, limits ConnLimits, clientIP *ClientIP) *Listener {
	return &Listener{
		Listener: inner, limits: limits, clientIP: clientIP,
		rate: NewLimiter(limits.Rate, 0),
	}
}

// Stats returns the counts.
func (l *Listener) Stats() ConnStats {
	return ConnStats{
		Open: l.stats.open.Load(), Accepted: l.stats.accepted.Load(),
		RefusedTotal: l.stats.total.Load(), RefusedAddr: l.stats.addr.Load(), RefusedRate: l.stats.rate.Load(),
	}
}

// Sweep frees memory after a flood, as [Limiter.Sweep] does.
func (l *Listener) Sweep(now time.Time) { l.rate.Sweep(now) }

// Accept returns the next connection that is within the limits. The connection has a
// method NetConn, as tls.Conn has, and a method DelayRelease(time.Duration), which makes
// the connection count for some time after it is closed.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if admitted := l.admit(c); admitted != nil {
			l.stats.accepted.Add(1)
			return admitted, nil
		}
		l.refuse(c)
	}
}

// admit returns the connection as it is counted, or nil.
func (l *Listener) admit(c net.Conn) net.Conn {
	addr := connAddr(c)
	trusted := !addr.IsValid() || l.clientIP.trusts(addr)
	counted := &conn{Conn: c, listener: l}
	if open := l.stats.open.Add(1); exceeds(int(open), l.limits.Max) && !l.countRefusal(&l.stats.total) {
		l.stats.open.Add(-1)
		return nil
	}
	if trusted {
		return counted
	}
	counted.keys = keysOf(addr)
	if !l.rate.Take(addr, time.Now()).OK && !l.countRefusal(&l.stats.rate) {
		l.stats.open.Add(-1)
		return nil
	}
	if l.open.enter(counted.keys, l.limits.MaxPerAddr) && !l.countRefusal(&l.stats.addr) {
		l.open.leave(counted.keys)
		l.stats.open.Add(-1)
		return nil
	}
	return counted
}

// countRefusal counts a refusal and reports whether a dry run admits the connection.
func (l *Listener) countRefusal(refused *atomic.Int64) bool {
	refused.Add(1)
	return l.limits.DryRun
}

// refuse closes the connection: after Tarpit if there is room to keep it open, otherwise
// immediately.
func (l *Listener) refuse(c net.Conn) {
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

func (l *Listener) release(keys [2]key) {
	l.stats.open.Add(-1)
	if keys[0] != (key{}) {
		l.open.leave(keys)
	}
}

// conn is a counted connection.
type conn struct {
	net.Conn
	listener     *Listener
	keys         [2]key // zero for a connection that counts only in total
	once         sync.Once
	releaseDelay atomic.Int64
}

// Close closes the connection and releases its slot once.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		l, keys := c.listener, c.keys // the closure must not keep c, which holds more memory
		if delay := time.Duration(c.releaseDelay.Load()); delay > 0 {
			time.AfterFunc(delay, func() { l.release(keys) })
		} else {
			l.release(keys)
		}
	})
	return err
}

// DelayRelease keeps the connection's slot for d after Close, for a server that keeps
// memory of the connection as long.
func (c *conn) DelayRelease(d time.Duration) { c.releaseDelay.Store(int64(d)) }

// NetConn returns the connection underneath, as tls.Conn does.
func (c *conn) NetConn() net.Conn { return c.Conn }
