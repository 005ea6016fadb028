package netconn

import (
	"net"
	"sync"
	"syscall"
)

// FetchListener returns a listener whose connections are each a [FetchConn]. It belongs next to
// the socket, under all layers that read.
func FetchListener(inner net.Listener) net.Listener {
	return Wrap(inner, func(c net.Conn) net.Conn { return &FetchConn{Conn: c} })
}

// FetchConn is a connection that can wait for bytes without a buffer for them. At first it reads
// as the connection underneath. After SetNonblocking, Read returns what Fetch has received and
// never waits: without bytes it returns [ErrWouldBlock]. [crypto/tls.Conn] does not
// remember this error and keeps the part of a record that it has, so the layers above can be
// read until they return ErrWouldBlock, and the connection then waits in Fetch, at the bottom of
// the stack. Peeking at the socket instead would miss records that TLS has read already.
//
// SetNonblocking, Read, Fetch and Await must not be called concurrently, nor SetNonblocking and
// Write. Otherwise Close, Write and the deadlines can be called at any time. The read deadline of a
// FetchConn ends Fetch and Await.
type FetchConn struct {
	net.Conn
	raw         syscall.RawConn // nil if the connection has none
	receive     func(fd uintptr) bool
	nonblocking bool
	await

	buffer   *fetchBuffer // nil without bytes
	unread   []byte       // of buffer
	err      error        // of the last receive, which ends the stream
	deferred *[]byte      // of Defer; nil without it
}

// fetchBytes is how much one Fetch receives at most.
const fetchBytes = 4 << 10

type fetchBuffer [fetchBytes]byte

var fetchBuffers = sync.Pool{New: func() any { return new(fetchBuffer) }}

// ErrWouldBlock is the error of a Read that has no bytes. It is a [net.Error] whose Temporary
// method returns true, on which crypto/tls depends, and is no [os.ErrDeadlineExceeded].
var ErrWouldBlock error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "nothing has arrived" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

// NetConn returns the connection underneath, as tls.Conn does.
func (c *FetchConn) NetConn() net.Conn { return c.Conn }

// SetNonblocking makes Read return only what Fetch has received. There is no way back.
func (c *FetchConn) SetNonblocking() {
	c.nonblocking = true
	c.initReceive()
}

// Fetch waits, after SetNonblocking, until bytes have arrived or the stream has ended, which Read then returns. It
// returns at once if Read has bytes left. Its own errors are those of the wait, such as
// [os.ErrDeadlineExceeded]. On systems other than Unix, and without a socket, a buffer is held
// while it waits.
func (c *FetchConn) Fetch() error {
	switch {
	case len(c.unread) > 0 || c.err != nil:
		return nil
	case c.raw == nil:
		return c.fetchBlocking()
	}
	return c.raw.Read(c.receive)
}

// fetchBlocking is Fetch for connections without a socket that can be polled.
func (c *FetchConn) fetchBlocking() error {
	buffer := fetchBuffers.Get().(*fetchBuffer)
	n, err := c.Conn.Read(buffer[:])
	c.received(buffer, n)
	if n > 0 {
		return nil
	}
	if e, ok := err.(net.Error); ok && e.Timeout() {
		return err
	}
	c.err = err
	return nil
}

// received keeps the first n bytes of a buffer for Read, or releases it if there are none.
func (c *FetchConn) received(buffer *fetchBuffer, n int) {
	if n <= 0 {
		fetchBuffers.Put(buffer)
		return
	}
	c.buffer, c.unread = buffer, buffer[:n]
}

// Read implements [net.Conn].
func (c *FetchConn) Read(p []byte) (int, error) {
	switch {
	case !c.nonblocking:
		return c.Conn.Read(p)
	case len(c.unread) > 0:
		n := copy(p, c.unread)
		if c.unread = c.unread[n:]; len(c.unread) == 0 {
			fetchBuffers.Put(c.buffer)
			c.buffer, c.unread = nil, nil
		}
		return n, nil
	case c.err != nil:
		return 0, c.err
	}
	return 0, ErrWouldBlock
}
