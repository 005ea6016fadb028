package ratelimit

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ConnLimits bounds the connections of a [Listener]. Zero is no limit.
type ConnLimits struct {
	// Max and MaxPerAddr are how many may be open at once; a /48 may have
	// sixteen times the latter.
	Max, MaxPerAddr int
	// Rate is how many an address may open.
	Rate Budget
	// Tarpit is how long a refused connection is kept before it is closed: a
	// flooder that waits for the answer is slowed by it.
	Tarpit time.Duration
	// MaxTarpitted is how many refused connections are kept at once; those beyond
	// are closed at once.
	MaxTarpitted int
	// DryRun counts what would be refused and refuses nothing.
	DryRun bool
}

// ConnStats counts what a [Listener] did since it was made.
type ConnStats struct {
	Open     int64 // connections open now
	Accepted int64
	// Refused by layer: too many in all, of one address, too fast.
	RefusedTotal, RefusedAddr, RefusedRate int64
}

// Listener refuses connections before anything is read from them: a TLS
// handshake costs a server about forty times what a request does. It refuses
// by closing; Accept never returns an error for a refused client, which would
// end the server (http.Server.Serve returns any error it gets).
type Listener struct {
	net.Listener
	limits    ConnLimits
	clientIP  *ClientIP
	rate      *Limiter
	open      counter
	tarpitted atomic.Int64
	stats     struct{ open, accepted, total, addr, rate atomic.Int64 }
}

// NewListener limits the connections of inner. Peers that clients trusts count
// only in all: they are proxies with many clients behind them.
func NewListener(inner net.Listener, limits ConnLimits, clientIP *ClientIP) *Listener {
	return &Listener{
		Listener: inner, limits: limits, clientIP: clientIP,
		rate: NewLimiter(limits.Rate, 0), open: newCounter(),
	}
}

// Stats returns the counters.
func (l *Listener) Stats() ConnStats {
	return ConnStats{
		Open: l.stats.open.Load(), Accepted: l.stats.accepted.Load(),
		RefusedTotal: l.stats.total.Load(), RefusedAddr: l.stats.addr.Load(), RefusedRate: l.stats.rate.Load(),
	}
}

// Sweep gives memory back after a flood.
func (l *Listener) Sweep(now time.Time) { l.rate.Sweep(now) }

// Accept returns the next connection that is within the limits.
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

func exceeds(n, limit int) bool { return limit > 0 && n > limit }

// countRefusal counts a refusal and reports whether it is only for the record.
func (l *Listener) countRefusal(refused *atomic.Int64) bool {
	refused.Add(1)
	return l.limits.DryRun
}

// refuse closes the connection, after a while if there is room to hold it.
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

// conn is a counted connection.
type conn struct {
	net.Conn
	listener     *Listener
	keys         [2]key // none: counted in all alone
	once         sync.Once
	releaseDelay atomic.Int64
}

// Close closes the connection and gives its place back, once.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		l, keys := c.listener, c.keys // and not c, which holds more memory
		if delay := time.Duration(c.releaseDelay.Load()); delay > 0 {
			time.AfterFunc(delay, func() { l.leave(keys) })
		} else {
			l.leave(keys)
		}
	})
	return err
}

// DelayRelease keeps the connection's place for so long after it is closed: for a
// server that keeps its memory as long.
func (c *conn) DelayRelease(d time.Duration) { c.releaseDelay.Store(int64(d)) }

func (l *Listener) leave(keys [2]key) {
	l.stats.open.Add(-1)
	if keys[0] != (key{}) {
		l.open.leave(keys)
	}
}

// NetConn returns the connection underneath, as tls.Conn does.
func (c *conn) NetConn() net.Conn { return c.Conn }

// SyscallConn lets a server ask the kernel about the connection.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, syscall.ENOTSUP
}
