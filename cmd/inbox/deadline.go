package main

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// deadlineTick is the longest that a deadline is set ahead in the runtime. It
// is no longer than the usual patience with a header, so that net/http's moves
// between that and the patience with an idle connection stay without effect.
const deadlineTick = 8 * time.Second

// maxWriteTime is the patience with a write that has no deadline. Those of HTTP/1.1
// have one; HTTP/2 and TLS itself, as for a client that asks for new keys, write
// without.
const maxWriteTime = time.Minute

// lazyListener makes the deadlines of its connections cheap to move.
type lazyListener struct{ net.Listener }

func (l lazyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newLazyConn(c), nil
}

// lazyConn is a connection whose deadlines are moved several times a request,
// as net/http does, at hardly any cost: only one that comes sooner reaches the
// runtime's timers. One that fires too early is set anew, unseen.
//
// net/http also begins a read in the background for each request, and takes it
// back with a deadline in the past. Mostly that read has not come to the runtime
// yet, and never does.
type lazyConn struct {
	net.Conn
	read, write lazyDeadline
}

func newLazyConn(c net.Conn) *lazyConn {
	now := time.Now()
	lazy := &lazyConn{Conn: c}
	lazy.read.set, lazy.read.began = c.SetReadDeadline, now
	lazy.write.set, lazy.write.began = c.SetWriteDeadline, now
	return lazy
}

func (c *lazyConn) Read(p []byte) (int, error) {
	if !c.read.begin() {
		return 0, os.ErrDeadlineExceeded
	}
	defer c.read.end()
	for {
		n, err := c.Conn.Read(p)
		if n > 0 || err == nil || !c.read.expiredEarly(err) {
			return n, err
		}
	}
}

func (c *lazyConn) Write(p []byte) (n int, err error) {
	c.write.setDefault(maxWriteTime)
	if !c.write.begin() {
		return 0, os.ErrDeadlineExceeded
	}
	defer c.write.end()
	for {
		m, err := c.Conn.Write(p[n:])
		n += m
		if err == nil || !c.write.expiredEarly(err) {
			return n, err
		}
	}
}

func (c *lazyConn) SetReadDeadline(t time.Time) error  { return c.read.move(t) }
func (c *lazyConn) SetWriteDeadline(t time.Time) error { return c.write.move(t) }

func (c *lazyConn) SetDeadline(t time.Time) error {
	return errors.Join(c.read.move(t), c.write.move(t))
}

// NetConn returns the connection underneath.
func (c *lazyConn) NetConn() net.Conn { return c.Conn }

// SyscallConn lets inbox.Alive ask the kernel.
func (c *lazyConn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.countedConn().(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, syscall.ENOTSUP
}

// DelayRelease keeps the connection's place after it is closed.
func (c *lazyConn) DelayRelease(d time.Duration) {
	if l, ok := c.countedConn().(interface{ DelayRelease(time.Duration) }); ok {
		l.DelayRelease(d)
	}
}

// countedConn is the listener's connection.
func (c *lazyConn) countedConn() net.Conn {
	counted := c.Conn
	for {
		p, ok := counted.(interface{ Raw() net.Conn })
		if !ok {
			return counted
		}
		counted = p.Raw() // under a PROXY header, or what counts records
	}
}

// lazyDeadline is one direction's deadline: the one that is wanted, and the one
// that is set, which is never the later. Both are times since the connection
// came; zero is none, less than that is over for sure. Each is written before
// the other is read, so that of two who meet one sees what the other did.
type lazyDeadline struct {
	set   func(time.Time) error
	began time.Time

	wanted, armed atomic.Int64 // those wanted by bound alone are odd
	busy          atomic.Int32 // calls that only the runtime can end

	mu sync.Mutex // held to set
}

// begin reports whether there is any time left for a call. One that began has
// to end.
func (d *lazyDeadline) begin() bool {
	d.busy.Add(1)
	if d.wanted.Load() < 0 {
		d.end()
		return false
	}
	return true
}

func (d *lazyDeadline) end() { d.busy.Add(-1) }

func (d *lazyDeadline) move(t time.Time) error {
	wanted := int64(0)
	if !t.IsZero() {
		wanted = int64(t.Sub(d.began)) &^ 1
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
	return d.advanceLocked()
}

// setDefault gives a call that nobody set a deadline for one of its own.
func (d *lazyDeadline) setDefault(limit time.Duration) {
	wanted := d.wanted.Load()
	if wanted < 0 || wanted != 0 && wanted&1 == 0 {
		return
	}
	// Whoever sets one meanwhile has it.
	if d.wanted.CompareAndSwap(wanted, int64(time.Since(d.began)+limit)|1) && d.armedTooLate() {
		d.mu.Lock()
		defer d.mu.Unlock()
		_ = d.advanceLocked() // of a closed connection, as the call will say
	}
}

// armedTooLate reports whether what is set comes later than what is wanted.
func (d *lazyDeadline) armedTooLate() bool {
	wanted, armed := d.wanted.Load(), d.armed.Load()
	return wanted != 0 && (armed == 0 || wanted < armed)
}

// advanceLocked sets what is wanted if that comes sooner.
func (d *lazyDeadline) advanceLocked() error {
	for d.armedTooLate() {
		if err := d.armLocked(d.wanted.Load()); err != nil {
			return err
		}
	}
	return nil
}

// expiredEarly reports whether err is a deadline that has passed before the wanted
// one; the next is set then.
func (d *lazyDeadline) expiredEarly(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now, wanted := int64(time.Since(d.began)), d.wanted.Load()
	if wanted != 0 && now >= wanted {
		return false
	}
	next := wanted
	if wanted != 0 {
		next = min(wanted, now+int64(deadlineTick))
	}
	if d.armLocked(next) != nil {
		return false
	}
	return d.advanceLocked() == nil
}

func (d *lazyDeadline) armLocked(since int64) error {
	d.armed.Store(since)
	if since == 0 {
		return d.set(time.Time{})
	}
	return d.set(d.began.Add(time.Duration(since)))
}
