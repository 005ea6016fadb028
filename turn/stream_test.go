package turn

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v4"
	pion "github.com/pion/turn/v5"

	"inbox/turn/internal/quota"
)

// pipeConn is one end of a pipe, with an address of a client.
type pipeConn struct {
	net.Conn
	remote net.Addr
}

func (c pipeConn) RemoteAddr() net.Addr { return c.remote }

// newPipeServer returns a server for a bubble of synctest, in which a pipe is a stream.
func newPipeServer(t *testing.T, change func(*Config)) *Server {
	t.Helper()
	config := Config{Secret: testSecret, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if change != nil {
		change(&config)
	}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// pipe returns the client's end of a stream, and a channel that is closed when ServeConn
// returned.
func (s *Server) pipe(t *testing.T) (net.Conn, chan struct{}) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close() })
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.ServeConn(pipeConn{far, &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 4000}})
	}()
	return near, served
}

// rawPipe returns a client over a pipe.
func (s *Server) rawPipe(t *testing.T, owner string) (*rawClient, chan struct{}) {
	conn, served := s.pipe(t)
	return &rawClient{t: t, conn: pion.NewSTUNConn(conn), creds: s.Credentials(owner, Payer{})}, served
}

// readAll splits bytes into messages as a stream does, and ends at the first error.
func readAll(r io.Reader) (messages [][]byte, err error) {
	f := newFrames()
	for f.fill(r) == nil {
		for {
			m, err := f.next()
			if err == io.ErrUnexpectedEOF {
				break
			}
			if err == errFrameTooLarge {
				messages = append(messages, nil)
				continue
			}
			if err != nil {
				return messages, err
			}
			messages = append(messages, bytes.Clone(m.bytes()))
		}
	}
	return messages, nil
}

func TestFrames(t *testing.T) {
	binding := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	data := func(n int) []byte {
		return append(channelData(0x4001, string(make([]byte, n))), make([]byte, padded(n)-n)...)
	}
	stream := bytes.Join([][]byte{binding, data(0), data(5), data(1596), binding, data(65535), data(1), data(1597), binding}, nil)
	want := [][]byte{binding, data(0), data(5), data(1596), binding, nil, data(1), nil, binding}
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(stream), "bytes": iotest.OneByteReader(bytes.NewReader(stream)),
		"halves": iotest.HalfReader(bytes.NewReader(stream)), "with error": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		got, err := readAll(r)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%s: got %d messages, %v, want %d", name, len(got), err, len(want))
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("%s: message %d: got %d bytes, want %d", name, i, len(got[i]), len(want[i]))
			}
		}
	}
}

func TestFramesOfOtherProtocols(t *testing.T) {
	for _, raw := range []string{"\x80abc", "\xc0abc", "\xff\xff\xff\xff"} {
		if _, err := readAll(bytes.NewReader([]byte(raw))); err != errNotTURN {
			t.Errorf("%q: got %v", raw, err)
		}
	}
}

// TestFramesMemory drips a frame of 64 KiB.
func TestFramesMemory(t *testing.T) {
	f := newFrames()
	r := iotest.OneByteReader(bytes.NewReader(append([]byte{0x40, 0, 0xff, 0xff}, make([]byte, 65536)...)))
	for f.fill(r) == nil {
		f.next()
	}
	if len(f.buf) != frameBufferBytes || cap(f.buf) != frameBufferBytes || f.skip != 0 {
		t.Errorf("got a buffer of %d bytes, %d to skip", cap(f.buf), f.skip)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(append(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw, channelData(0x4000, "payload.")...), uint8(3))
	f.Add([]byte{0x40, 0, 0xff, 0xfc, 1, 2, 3}, uint8(1))
	f.Fuzz(func(t *testing.T, raw []byte, chunk uint8) {
		whole, wholeErr := readAll(bytes.NewReader(raw))
		chunked, chunkedErr := readAll(&chunkReader{raw, int(chunk)%64 + 1})
		if !errors.Is(wholeErr, chunkedErr) || len(whole) != len(chunked) {
			t.Fatalf("got %d messages, %v, in chunks %d, %v", len(whole), wholeErr, len(chunked), chunkedErr)
		}
		total := 0
		for i := range whole {
			if total += len(whole[i]); !bytes.Equal(whole[i], chunked[i]) {
				t.Errorf("message %d differs", i)
			}
		}
		if total > len(raw) {
			t.Errorf("got %d bytes of %d", total, len(raw))
		}
	})
}

type chunkReader struct {
	b []byte
	n int
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b[:min(len(r.b), r.n)])
	r.b = r.b[n:]
	return n, nil
}

func TestStreamWithoutAllocationEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPipeServer(t, nil)
		start := time.Now()
		silent, served := s.pipe(t)
		slow, slowServed := s.pipe(t)
		var writer sync.WaitGroup
		writer.Go(func() {
			for { // a byte a second
				if _, err := slow.Write([]byte{0}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		<-served
		<-slowServed
		if got := time.Since(start); got != allocateTimeout {
			t.Errorf("ended after %v, want %v", got, allocateTimeout)
		}
		if _, err := silent.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %v, want EOF", err)
		}
		writer.Wait()
	})
}

// acceptedConn is a connection that knows when it was accepted.
type acceptedConn struct {
	pipeConn
	at time.Time
}

func (c acceptedConn) Accepted() time.Time { return c.at }

// TestStreamTimeIncludesTheHandshake serves a connection that took eight seconds until it was
// handed over.
func TestStreamTimeIncludesTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPipeServer(t, nil)
		near, far := net.Pipe()
		defer near.Close()
		start := time.Now()
		client := pipeConn{far, &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 4000}}
		s.ServeConn(acceptedConn{client, start.Add(-8 * time.Second)})
		if got, want := time.Since(start), allocateTimeout-8*time.Second; got != want {
			t.Errorf("ended after %v, want %v", got, want)
		}
	})
}

// TestStreamWithUnauthenticatedRequestsEnds sends requests without credentials, as a client
// that wants to stay would.
func TestStreamWithUnauthenticatedRequestsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPipeServer(t, nil)
		c, served := s.rawPipe(t, "alice")
		for range maxUnboundRequests {
			c.ask(stun.MethodAllocate)
		}
		c.send(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
		<-served
		if got := s.State(); got.Withheld != 1 || got.Unauthenticated != maxUnboundRequests || got.Streams != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

// TestStreamThatAllocatesAgainAndAgainEnds keeps pion busy, as no client needs to.
func TestStreamThatAllocatesAgainAndAgainEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPipeServer(t, nil)
		c, served := s.rawPipe(t, "alice")
		for range maxUnboundRequests - 1 { // one brought the nonce
			c.allocate()
			c.expect(0, stun.MethodRefresh, lifetime(0))
		}
		c.send(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
		<-served
	})
}

func TestStreamFramesThatEndIt(t *testing.T) {
	for name, raw := range map[string][]byte{
		"another protocol":                        {0x80, 0, 0, 0},
		"ChannelData of 64 KiB":                   {0x40, 0, 0xff, 0xfc},
		"ChannelData of 64 KiB after the padding": {0x40, 0, 0xff, 0xff},
		"STUN of 64 KiB":                          {0, 3, 0xff, 0xfc},
		"STUN without its cookie":                 make([]byte, stunHeaderBytes),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPipeServer(t, nil)
				start := time.Now()
				c, served := s.pipe(t)
				if _, err := c.Write(raw); err != nil {
					t.Fatal(err)
				}
				<-served
				if got := time.Since(start); got != 0 {
					t.Errorf("ended after %v", got)
				}
			})
		})
	}
}

// TestStreamSkipsLargeFrames sends ChannelData that no datagram can carry.
func TestStreamSkipsLargeFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPipeServer(t, nil)
		c, _ := s.rawPipe(t, "alice")
		c.allocate()
		c.send(channelData(0x4000, string(make([]byte, 65532))))
		c.expect(0, stun.MethodRefresh)
		if got := s.State().Dropped["too-large"]; got != 1 {
			t.Errorf("got %d dropped, want 1", got)
		}
	})
}

func TestStreamEndsAllocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPipeServer(t, nil)
		c, served := s.rawPipe(t, "alice")
		c.allocate()
		time.Sleep(2 * allocateTimeout)
		c.expect(0, stun.MethodRefresh)
		if got := s.State(); got.TLS.Allocations != 1 || got.Streams != 1 {
			t.Errorf("got %+v", got)
		}
		c.conn.Close()
		<-served
		if got := s.State(); got.TLS.Allocations != 0 || got.Streams != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestStreamEndsAfterItsAllocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPipeServer(t, nil)
		c, served := s.rawPipe(t, "alice")
		c.allocate()
		c.expect(0, stun.MethodRefresh, lifetime(0))
		time.Sleep(allocateTimeout - time.Second)
		c.allocate()
		start := time.Now()
		s.Revoke("alice")
		<-served
		if got := time.Since(start); got != allocateTimeout {
			t.Errorf("ended after %v, want %v", got, allocateTimeout)
		}
	})
}

func TestCloseStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPipeServer(t, nil)
		start := time.Now()
		c, served := s.rawPipe(t, "alice")
		c.allocate()
		s.CloseStreams()
		<-served
		_, late := s.pipe(t)
		<-late
		if got := time.Since(start); got != 0 || s.State().TLS.Allocations != 0 {
			t.Errorf("ended after %v, %+v", got, s.State())
		}
	})
}

func TestConnWithoutAddressIsClosed(t *testing.T) {
	s := newPipeServer(t, nil)
	near, far := net.Pipe()
	s.ServeConn(far)
	if _, err := near.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v, want EOF", err)
	}
}

// TestSlowStreamDropsDatagrams relays to a client that does not read. The sender is not
// delayed, and the stream ends at the write timeout.
func TestSlowStreamDropsDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPipeServer(t, nil)
		slow, served := s.rawPipe(t, "bob")
		fast, _ := s.rawPipe(t, "alice")
		b, a := slow.allocate(), fast.allocate()
		slow.expect(0, stun.MethodCreatePermission, peer(a))
		fast.expect(0, stun.MethodChannelBind, channelNumberAttr(0x4000), peer(b))
		start := time.Now()
		const packets, bytes = 200, 1000
		for range packets {
			fast.send(channelData(0x4000, string(make([]byte, bytes))))
		}
		fast.expect(0, stun.MethodRefresh) // all packets were read
		state := s.State()
		if got := time.Since(start); got != 0 {
			t.Errorf("the sender was delayed by %v", got)
		}
		if got := state.Dropped["queue-full"]; got < packets-2*maxQueuedBytes/bytes || got == packets {
			t.Errorf("got %d dropped packets", got)
		}
		if got, want := state.MonthBytes, (packets-state.Dropped["queue-full"])*(bytes+quota.HeaderBytes); got != want {
			t.Errorf("the month counts %d bytes, want %d of the packets that were queued", got, want)
		}
		if got := state.LongestQueueBytes; got > maxQueuedBytes || got < maxQueuedBytes/2 {
			t.Errorf("got a queue of %d bytes", got)
		}
		<-served
		if got := time.Since(start); got != writeTimeout {
			t.Errorf("the slow stream ended after %v, want %v", got, writeTimeout)
		}
	})
}

// deadlineConn tells which write deadline was set last.
type deadlineConn struct {
	pipeConn
	last *atomic.Value
}

func (c deadlineConn) SetWriteDeadline(at time.Time) error {
	c.last.Store(at)
	return c.pipeConn.SetWriteDeadline(at)
}

// TestIdleStreamHasNoWriteDeadline leaves none behind for what TLS writes itself, as the answer to
// a key update.
func TestIdleStreamHasNoWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		c := deadlineConn{pipeConn{far, nil}, new(atomic.Value)}
		o := &outbox{conn: c, failed: func() { t.Error("a write failed") }}
		go io.Copy(io.Discard, near)
		for range 3 {
			o.push(stun.MustBuild(stun.TransactionID, stun.BindingSuccess).Raw, maxQueuedBytes)
			synctest.Wait()
			if got := c.last.Load().(time.Time); !got.IsZero() {
				t.Errorf("got a deadline of %v", got)
			}
			time.Sleep(2 * writeTimeout)
		}
		if _, err := c.Write([]byte("key update")); err != nil {
			t.Error(err)
		}
		far.Close()
		o.close()
	})
}

// TestOutboxMemory checks that a queue that was full returns its memory.
func TestOutboxMemory(t *testing.T) {
	near, far := net.Pipe()
	o := &outbox{conn: far, failed: func() {}}
	for o.push(make([]byte, 1000), maxQueuedBytes) {
	}
	if got := o.len(); got > maxQueuedBytes || got < maxQueuedBytes-1000 {
		t.Errorf("got a queue of %d bytes", got)
	}
	go io.Copy(io.Discard, near)
	eventually(t, "an empty queue", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return !o.writing
	})
	if cap(o.queue) > keptQueueBytes {
		t.Errorf("got %d bytes of an empty queue", cap(o.queue))
	}
	far.Close()
	o.close()
	if o.push([]byte{0}, maxQueuedBytes) {
		t.Error("a closed queue accepts bytes")
	}
}

// TestAddrPortOf unmaps IPv4 addresses of dual-stack sockets.
func TestAddrPortOf(t *testing.T) {
	for _, row := range []struct {
		addr net.Addr
		want netip.AddrPort
	}{
		{&net.TCPAddr{IP: net.ParseIP("198.51.100.1"), Port: 1}, netip.MustParseAddrPort("198.51.100.1:1")},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 2}, netip.MustParseAddrPort("[2001:db8::1]:2")},
		{&net.UnixAddr{Name: "x"}, netip.AddrPort{}},
	} {
		if got := addrPortOf(row.addr); got != row.want {
			t.Errorf("got %v, want %v", got, row.want)
		}
	}
}
