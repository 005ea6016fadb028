package turn

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"inbox/internal/netconn"
)

const (
	// allocateTimeout is how long a stream exists without an allocation.
	allocateTimeout = 10 * time.Second
	// maxUnboundRequests is how many requests a stream can send while it has no allocation,
	// also between two of them. A client needs two.
	maxUnboundRequests = 16
	// writeTimeout ends a stream whose client reads nothing.
	writeTimeout = 15 * time.Second
	// maxQueuedBytes bounds what waits for a slow client, beside as much that is being
	// written. It is 32 ms of the rate of an allocation.
	maxQueuedBytes = 32 << 10
	// keptQueueBytes is the capacity that a queue keeps while it is empty.
	keptQueueBytes = 4 << 10
	// socketBufferBytes bounds what waits in the kernel, where datagrams would be seconds old.
	socketBufferBytes = 128 << 10
	// frameBufferBytes is the room for one frame and what follows it.
	frameBufferBytes = 2 << 10
)

var (
	errNotTURN       = errors.New("neither STUN nor ChannelData")
	errFrameTooLarge = errors.New("frame too large")
)

// stream is a client over TLS.
type stream struct {
	s               *Server
	conn            net.Conn
	client          netip.AddrPort
	allocation      atomic.Pointer[allocation]
	unboundRequests int // of the reader
	out             outbox

	mu      sync.Mutex // guards the read deadline and changes of the allocation
	aborted bool
}

// ServeConn serves one connection of a client, usually a [crypto/tls.Conn]. It closes the
// connection and returns when the client did, after ten seconds without an allocation, or at
// [Server.CloseStreams] or [Server.Close].
//
// The first ten seconds begin when ServeConn is called, unless the connection, or one that its
// method NetConn returns, has a method Accepted() time.Time: then they begin at that time.
func (s *Server) ServeConn(c net.Conn) {
	st := &stream{s: s, conn: c, client: addrPortOf(c.RemoteAddr())}
	st.out.conn, st.out.failed = c, st.abort
	if !st.client.IsValid() || !s.addStream(st) {
		c.Close()
		return
	}
	defer st.end()
	st.serve()
}

func (st *stream) end() {
	st.conn.Close()
	st.out.close()
	if a := st.allocation.Load(); a != nil {
		st.s.closeAllocation(a)
	}
	st.s.removeStream(st)
}

func addrPortOf(addr net.Addr) netip.AddrPort {
	if a, ok := addr.(interface{ AddrPort() netip.AddrPort }); ok {
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	return netip.AddrPort{}
}

func (s *Server) addStream(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams == nil {
		return false
	}
	s.running.Add(1)
	s.streams[st] = struct{}{}
	return true
}

func (s *Server) removeStream(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	s.running.Done()
}

// streamState returns the number of streams and what waits in the longest queue.
func (s *Server) streamState() (streams, longestQueue int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		longestQueue = max(longestQueue, st.out.len())
	}
	return len(s.streams), longestQueue
}

// acceptedAt returns the time of a layer of the connection that knows it.
func acceptedAt(c net.Conn) time.Time {
	if known, ok := netconn.Find[interface{ Accepted() time.Time }](c); ok {
		return known.Accepted()
	}
	return time.Now()
}

func (st *stream) serve() {
	st.mu.Lock()
	st.setReadDeadlineLocked(acceptedAt(st.conn).Add(allocateTimeout))
	st.mu.Unlock()
	f := newFrames()
	for f.fill(st.conn) == nil {
		for {
			m, err := f.next()
			if err == io.ErrUnexpectedEOF {
				break
			}
			if !st.receive(m, err) {
				return
			}
		}
	}
}

// receive handles a frame, and reports whether the stream continues.
func (st *stream) receive(m message, err error) bool {
	a := st.allocation.Load()
	switch err {
	case nil:
	case errFrameTooLarge:
		st.s.counters.drop(dropTooLarge)
		return a != nil
	default:
		st.s.counters.drop(dropMalformed)
		return false
	}
	switch m.kind() {
	case kindChannelData, kindSend:
		st.s.counters.drop(st.s.relay(a, m))
	case kindRequest:
		st.s.serveRequest(st, a, m.bytes())
	case kindUnknown:
		st.s.counters.drop(dropMalformed)
		return false
	}
	return true
}

func (st *stream) transport() transport { return overTLS }
func (st *stream) addr() netip.AddrPort { return st.client }

func (st *stream) admit(bool) bool {
	st.unboundRequests++
	if st.unboundRequests > maxUnboundRequests {
		st.abort()
		return false
	}
	return true
}

func (st *stream) relay(b []byte) dropReason {
	if !st.out.push(b, maxQueuedBytes) {
		return dropQueueFull
	}
	return notDropped
}

// answer ends a stream that has no room for an answer: unlike a datagram, it must not get lost.
func (st *stream) answer(b []byte) {
	if !st.out.push(b, 2*maxQueuedBytes) {
		st.abort()
	}
}

func (st *stream) attach(a *allocation) {
	if c, ok := netconn.Find[interface{ SetWriteBuffer(int) error }](st.conn); ok {
		c.SetWriteBuffer(socketBufferBytes)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.allocation.Store(a)
	st.setReadDeadlineLocked(time.Time{})
}

func (st *stream) detach(a *allocation) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.allocation.CompareAndSwap(a, nil) {
		st.setReadDeadlineLocked(time.Now().Add(allocateTimeout))
	}
}

// setReadDeadlineLocked sets when the stream ends. Zero is never.
func (st *stream) setReadDeadlineLocked(at time.Time) {
	if !st.aborted {
		st.conn.SetReadDeadline(at)
	}
}

// abort makes serve return soon. It does not wait, unlike the Close of a TLS connection.
func (st *stream) abort() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.aborted = true
	st.conn.SetReadDeadline(time.Unix(1, 0))
}

// frames splits a stream into messages (RFC 8656, section 12.6; RFC 8489, section 6.2.2). Its
// memory does not depend on what a header claims.
type frames struct {
	buf        []byte
	start, end int // what was read and not returned yet
	skip       int // bytes of a frame that is too large
}

func newFrames() *frames {
	return &frames{buf: make([]byte, frameBufferBytes), start: headroomBytes, end: headroomBytes}
}

// fill reads once. It invalidates the messages that next returned.
func (f *frames) fill(r io.Reader) error {
	f.end = headroomBytes + copy(f.buf[headroomBytes:], f.buf[f.start:f.end])
	f.start = headroomBytes
	n, err := r.Read(f.buf[f.end : len(f.buf)-tailroomBytes])
	f.end += n
	if n > 0 {
		return nil
	}
	return err
}

// next returns the next message. Errors: io.ErrUnexpectedEOF if it is not complete,
// errFrameTooLarge for a frame that is skipped, errNotTURN.
func (f *frames) next() (message, error) {
	skipped := min(f.skip, f.end-f.start)
	f.start += skipped
	f.skip -= skipped
	b := f.buf[f.start:f.end]
	if len(b) < channelHeaderBytes {
		return message{}, io.ErrUnexpectedEOF
	}
	size := frameSize(b)
	switch {
	case size == 0:
		return message{}, errNotTURN
	case size > maxMessageBytes:
		f.skip = size
		return message{}, errFrameTooLarge
	case size > len(b):
		return message{}, io.ErrUnexpectedEOF
	}
	m := message{f.buf, f.start, f.start + size}
	f.start += size
	return m, nil
}

// frameSize returns how long a message is in a stream, with its header and padding. It is
// zero for what is no message.
func frameSize(header []byte) int {
	size := int(binary.BigEndian.Uint16(header[2:]))
	switch binary.BigEndian.Uint16(header) & kindBits {
	case 0:
		return stunHeaderBytes + size
	case channelNumberBits:
		return channelHeaderBytes + padded(size)
	}
	return 0
}

// outbox is the bounded queue of messages to a client. A goroutine exists only while there is
// something to write. Each message is a TLS record, as those of other servers are: some
// clients lose the second message of a record.
type outbox struct {
	conn    net.Conn
	failed  func() // called after a failed write
	writers sync.WaitGroup

	mu      sync.Mutex
	queue   []byte
	writing bool
	closed  bool
}

// push queues a message, or returns false if the queue is then longer than limit bytes.
func (o *outbox) push(b []byte, limit int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || len(o.queue)+len(b) > limit {
		return false
	}
	o.queue = append(o.queue, b...)
	if !o.writing {
		o.writing = true
		o.writers.Go(o.write)
	}
	return true
}

func (o *outbox) write() {
	var batch []byte
	for {
		if batch = o.swap(batch); batch == nil {
			return
		}
		o.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		for rest := batch; len(rest) > 0; {
			size := frameSize(rest)
			if _, err := o.conn.Write(rest[:size]); err != nil {
				o.refuse()
				o.failed()
				break
			}
			rest = rest[size:]
		}
	}
}

// swap takes what is queued and gives the queue the memory of the batch before. It returns
// nil if there is nothing to write.
func (o *outbox) swap(before []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	batch := o.queue
	o.queue = before[:0]
	if len(batch) > 0 && !o.closed {
		return batch
	}
	// The connection itself writes, too: the answer to a key update must not meet an old deadline.
	o.conn.SetWriteDeadline(time.Time{})
	o.writing = false
	if cap(o.queue) > keptQueueBytes {
		o.queue = nil
	}
	return nil
}

func (o *outbox) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue)
}

func (o *outbox) refuse() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}

// close waits for the writer. The connection must be closed.
func (o *outbox) close() {
	o.refuse()
	o.writers.Wait()
}
