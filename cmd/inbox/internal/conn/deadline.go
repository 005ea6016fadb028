package conn

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"inbox/internal/netconn"
)

// deadlineTick bounds how far ahead a deadline is set in the runtime. It is below the default
// header timeout, so that net/http's moves between that and the idle timeout change no timer.
const deadlineTick = 8 * time.Second

// LazyListener returns a listener whose connections can move their deadlines at low cost. Writes
// without a deadline are limited by writes; those of HTTP/1.1 and HTTP/2 have none, nor have
// those of TLS itself, as in response to a key update. OnFirst can be nil.
func LazyListener(inner net.Listener, writes *WriteLimit, onFirst OnFirstBytes) net.Listener {
	return netconn.Wrap(inner, func(c net.Conn) net.Conn {
		lazy := newLazyConn(c, writes)
		lazy.onFirst = onFirst
		return lazy
	})
}

// OnFirstBytes is called with what the first read of a connection returns, before it is used.
type OnFirstBytes func(peer net.Addr, first []byte)

// lazyConn makes deadlines cheap to move, which net/http does several times per request. A
// deadline reaches the runtime's timers only if it is earlier than the one that is set. When a
// timer fires before the wanted deadline, the call continues with a new timer.
//
// net/http also starts a background read for each request and aborts it with a deadline in
// the past. Usually that read has not reached the runtime yet, and then never does.
type lazyConn struct {
	net.Conn
	accepted    time.Time
	read, write lazyDeadline
	progress    writeProgress
	onFirst     OnFirstBytes // nil after the first read
}

func newLazyConn(c net.Conn, writes *WriteLimit) *lazyConn {
	lazy := &lazyConn{Conn: c, accepted: time.Now()}
	lazy.progress.limit = writes
	lazy.write.isWrite = true
	return lazy
}

func (c *lazyConn) Read(p []byte) (int, error) {
	if !c.read.begin() {
		return 0, os.ErrDeadlineExceeded
	}
	defer c.read.end()
	for {
		n, err := c.Conn.Read(p)
		if n > 0 && c.onFirst != nil {
			c.onFirst(c.RemoteAddr(), p[:n])
			c.onFirst = nil
		}
		if n > 0 || err == nil || !c.read.expiredEarly(c, err) {
			return n, err
		}
	}
}

func (c *lazyConn) Write(p []byte) (n int, err error) {
	began, waited := c.setCheck(), false
	if !c.write.begin() {
		return 0, os.ErrDeadlineExceeded
	}
	defer c.write.end()
	for {
		m, err := c.Conn.Write(p[n:])
		n += m
		c.progress.written.Add(int64(m))
		switch {
		case err == nil:
			if waited {
				c.progress.endedAt(c.now())
			}
			return n, nil
		case c.write.expiredEarly(c, err):
		case began != 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.progress.continues(c.Conn, began, c.now()) &&
			(c.setCheck() != 0 || c.write.expiredEarly(c, err)): // a deadline can have been set meanwhile
			waited = true
		default:
			return n, err
		}
	}
}

// setCheck sets a deadline for the next check of a write that has none, and returns the time;
// 0 if the write is not limited.
func (c *lazyConn) setCheck() time.Duration {
	interval := c.progress.limit.interval()
	if interval <= 0 {
		return 0
	}
	return c.write.setDefault(c, interval)
}

func (c *lazyConn) SetReadDeadline(t time.Time) error  { return c.read.move(c, t) }
func (c *lazyConn) SetWriteDeadline(t time.Time) error { return c.write.move(c, t) }

func (c *lazyConn) SetDeadline(t time.Time) error {
	return errors.Join(c.read.move(c, t), c.write.move(c, t))
}

// Accepted returns when the connection was accepted.
func (c *lazyConn) Accepted() time.Time { return c.accepted }

// now returns the time since the connection was accepted, which is never 0.
func (c *lazyConn) now() time.Duration { return time.Since(c.accepted) | 1 }

// NetConn returns the connection underneath, as tls.Conn does.
func (c *lazyConn) NetConn() net.Conn { return c.Conn }

// lazyDeadline has the two deadlines of one direction: the wanted one and the armed one, which
// is never later. Both are durations since the connection was accepted; zero is none, and a
// negative one has passed. Each is written before the other is read, so that of two
// concurrent calls at least one sees the change of the other.
type lazyDeadline struct {
	wanted, armed atomic.Int64 // a wanted deadline that setDefault chose is odd
	busy          atomic.Int32 // calls in progress, which only the runtime can end
	isWrite       bool

	mu sync.Mutex // held while arming
}

// begin reports whether a call can start. A call that has started must call end.
func (d *lazyDeadline) begin() bool {
	d.busy.Add(1)
	if d.wanted.Load() < 0 {
		d.end()
		return false
	}
	return true
}

func (d *lazyDeadline) end() { d.busy.Add(-1) }

func (d *lazyDeadline) move(c *lazyConn, t time.Time) error {
	wanted := int64(0)
	if !t.IsZero() {
		wanted = int64(t.Sub(c.accepted)) &^ 1
		if wanted <= 0 {
			wanted = -1
		}
	}
	d.wanted.Store(wanted)
	if wanted < 0 && d.busy.Load() == 0 || !d.armedTooLate() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.advanceLocked(c)
}

// setDefault gives a call without a deadline a default one, and returns the time; 0 if the call
// has a deadline.
func (d *lazyDeadline) setDefault(c *lazyConn, limit time.Duration) time.Duration {
	wanted := d.wanted.Load()
	if wanted < 0 || wanted != 0 && wanted&1 == 0 {
		return 0
	}
	now := c.now()
	if !d.wanted.CompareAndSwap(wanted, int64(now+limit)|1) {
		return 0 // a deadline that is set concurrently wins
	}
	if d.armedTooLate() {
		d.mu.Lock()
		defer d.mu.Unlock()
		_ = d.advanceLocked(c) // the connection is closed; the call will return the error
	}
	return now
}

// armedTooLate reports whether the armed deadline is later than the wanted one.
func (d *lazyDeadline) armedTooLate() bool {
	wanted, armed := d.wanted.Load(), d.armed.Load()
	return wanted != 0 && (armed == 0 || wanted < armed)
}

// advanceLocked arms the wanted deadline if it is earlier than the armed one.
func (d *lazyDeadline) advanceLocked(c *lazyConn) error {
	for d.armedTooLate() {
		if err := d.armLocked(c, d.wanted.Load()); err != nil {
			return err
		}
	}
	return nil
}

// expiredEarly reports whether err is a timeout before the wanted deadline. If so, it arms the
// next one.
func (d *lazyDeadline) expiredEarly(c *lazyConn, err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now, wanted := int64(time.Since(c.accepted)), d.wanted.Load()
	if wanted != 0 && now >= wanted {
		return false
	}
	next := wanted
	if wanted != 0 {
		next = min(wanted, now+int64(deadlineTick))
	}
	if d.armLocked(c, next) != nil {
		return false
	}
	return d.advanceLocked(c) == nil
}

func (d *lazyDeadline) armLocked(c *lazyConn, since int64) error {
	d.armed.Store(since)
	t := time.Time{}
	if since != 0 {
		t = c.accepted.Add(time.Duration(since))
	}
	if d.isWrite {
		return c.Conn.SetWriteDeadline(t)
	}
	return c.Conn.SetReadDeadline(t)
}
