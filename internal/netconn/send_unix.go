//go:build unix

package netconn

import (
	"os"
	"sync"
	"syscall"
)

// maxSendBytes bounds what is sent without telling the runtime, which takes microseconds.
const maxSendBytes = 16 << 10

// sending is a write in progress.
type sending struct {
	rest []byte
	err  error
	once bool                  // does not wait for room
	send func(fd uintptr) bool // sendNow: each use of a method as a value would allocate memory
}

var sendings = sync.Pool{New: func() any {
	s := new(sending)
	s.send = s.sendNow
	return s
}}

// sendNow sends what the socket has room for, and reports whether no more can be sent.
func (s *sending) sendNow(fd uintptr) bool {
	for len(s.rest) > 0 {
		n, err := writeNow(fd, s.rest)
		s.rest = s.rest[n:]
		switch err {
		case nil, syscall.EINTR:
		case syscall.EAGAIN:
			return s.once
		default:
			s.err = os.NewSyscallError("write", err)
			return true
		}
	}
	return true
}

// Write implements [net.Conn].
func (c *FetchConn) Write(p []byte) (int, error) {
	switch {
	case c.raw == nil:
	case c.deferred != nil:
		return c.writeDeferring(p)
	case len(p) <= maxSendBytes:
		return c.send(p, false)
	}
	return c.Conn.Write(p)
}

// writeDeferring sends what the socket has room for, unless something precedes it, and keeps the
// rest.
func (c *FetchConn) writeDeferring(p []byte) (n int, err error) {
	if len(*c.deferred) == 0 {
		if n, err = c.send(p, true); err != nil {
			return n, err
		}
	}
	*c.deferred = append(*c.deferred, p[n:]...)
	return len(p), nil
}

func (c *FetchConn) send(p []byte, once bool) (n int, err error) {
	s := sendings.Get().(*sending)
	s.rest, s.once = p, once
	err = c.raw.Write(s.send)
	n = len(p) - len(s.rest)
	if err == nil {
		err = s.err
	}
	s.rest, s.err = nil, nil
	sendings.Put(s)
	return n, err
}

// CanDefer reports whether Defer works for the connection, as it does after SetNonblocking.
func (c *FetchConn) CanDefer() bool { return c.raw != nil }

// Defer makes Write append to rest what the socket has no room for, instead of waiting, until it is
// called with nil. The caller writes the rest then. Defer must not be called during a Write.
func (c *FetchConn) Defer(rest *[]byte) { c.deferred = rest }
