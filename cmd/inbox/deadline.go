package main

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// deadlineTick is the longest that a deadline is set ahead in the runtime. It
// is no longer than the usual patience with a header, so that net/http's moves
// between that and the patience with an idle connection stay without effect.
const deadlineTick = 8 * time.Second

// lazyListener makes the deadlines of its connections cheap to move.
type lazyListener struct{ net.Listener }

func (l lazyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	lazy := &lazyConn{Conn: c}
	lazy.read.set, lazy.write.set = c.SetReadDeadline, c.SetWriteDeadline
	return lazy, nil
}

// lazyConn is a connection whose deadlines are moved several times a request,
// as net/http does, at hardly any cost: only one that comes sooner reaches the
// runtime's timers. One that fires too early is set anew, unseen.
type lazyConn struct {
	net.Conn
	read, write lazyDeadline
}

func (c *lazyConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if n > 0 || err == nil || !c.read.early(err) {
			return n, err
		}
	}
}

func (c *lazyConn) Write(p []byte) (n int, err error) {
	for {
		m, err := c.Conn.Write(p[n:])
		n += m
		if err == nil || !c.write.early(err) {
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

// SyscallConn lets alive ask the kernel.
func (c *lazyConn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.counted().(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, syscall.ENOTSUP
}

// Linger keeps the connection's place after it is closed.
func (c *lazyConn) Linger(d time.Duration) {
	if l, ok := c.counted().(interface{ Linger(time.Duration) }); ok {
		l.Linger(d)
	}
}

// counted is the listener's connection.
func (c *lazyConn) counted() net.Conn {
	if p, ok := c.Conn.(interface{ Raw() net.Conn }); ok {
		return p.Raw() // under a PROXY header
	}
	return c.Conn
}

// lazyDeadline is one direction's deadline: the one that is wanted, and the one
// that is set, which is never the later. Zero is none.
type lazyDeadline struct {
	set func(time.Time) error

	mu          sync.Mutex
	wanted, has time.Time
}

func (d *lazyDeadline) move(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = t
	if t.IsZero() || !d.has.IsZero() && !t.Before(d.has) {
		return nil
	}
	return d.setLocked(t)
}

// early reports whether err is a deadline that has passed before the wanted
// one; the next is set then.
func (d *lazyDeadline) early(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if d.wanted.IsZero() {
		return d.setLocked(time.Time{}) == nil
	}
	if !now.Before(d.wanted) {
		return false
	}
	next := now.Add(deadlineTick)
	if d.wanted.Before(next) {
		next = d.wanted
	}
	return d.setLocked(next) == nil
}

func (d *lazyDeadline) setLocked(t time.Time) error {
	d.has = t
	return d.set(t)
}
