package turn

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeRawConn is a socket that is always ready.
type fakeRawConn struct {
	syscall.RawConn
	waits int
}

func (c *fakeRawConn) Read(f func(uintptr) bool) error { return c.Write(f) }
func (c *fakeRawConn) Write(f func(uintptr) bool) error {
	for !f(0) {
		c.waits++
	}
	return nil
}

// answer is what a system call returns.
type answer struct {
	n     int
	errno syscall.Errno
}

// newFakeBatchIO returns a batchIO whose system calls return the answers, in turn. It notes the
// first message of each call.
func newFakeBatchIO(answers []answer) (b *batchIO, conn *fakeRawConn, firsts *[]int) {
	conn, firsts = &fakeRawConn{}, new([]int)
	b = &batchIO{conn: conn, rawCall: func(_, _ uintptr, _ *mmsghdrs, first, _ int) (int, syscall.Errno) {
		*firsts = append(*firsts, first)
		a := answers[0]
		answers = answers[1:]
		return a.n, a.errno
	}}
	b.recvmmsg, b.sendmmsg = b.receiveNow, b.sendNow
	return b, conn, firsts
}

func TestSendContinues(t *testing.T) {
	to := &allocation{client: &udpClient{fiveTuple: fiveTuple{client: netip.MustParseAddrPort("127.0.0.1:4000")}}}
	for _, row := range []struct {
		name    string
		answers []answer
		sent    []bool
		firsts  []int
		waits   int
	}{
		{"all at once", []answer{{3, 0}}, []bool{true, true, true}, []int{0}, 0},
		{"partial", []answer{{1, 0}, {2, 0}}, []bool{true, true, true}, []int{0, 1}, 0},
		{"full buffer", []answer{{1, 0}, {-1, unix.EAGAIN}, {-1, unix.EAGAIN}, {2, 0}}, []bool{true, true, true}, []int{0, 1, 1, 1}, 2},
		{"signal", []answer{{-1, unix.EINTR}, {3, 0}}, []bool{true, true, true}, []int{0, 0}, 0},
		{"first refused", []answer{{-1, unix.EPERM}, {2, 0}}, []bool{false, true, true}, []int{0, 1}, 0},
		{"second refused", []answer{{1, 0}, {-1, unix.ECONNREFUSED}, {1, 0}}, []bool{true, false, true}, []int{0, 1, 2}, 0},
		{"last refused", []answer{{2, 0}, {-1, unix.EPERM}}, []bool{true, true, false}, []int{0, 2}, 0},
		{"all refused", []answer{{-1, unix.EPERM}, {-1, unix.ENETUNREACH}, {-1, unix.EPERM}}, []bool{false, false, false}, []int{0, 1, 2}, 0},
		{"nothing sent without an error", []answer{{0, 0}, {2, 0}}, []bool{false, true, true}, []int{0, 1}, 0},
	} {
		b, conn, firsts := newFakeBatchIO(row.answers)
		packets := make([]outgoing, 3)
		for i := range packets {
			packets[i] = outgoing{to: to, packet: []byte("data")}
		}
		b.send(packets)
		for i, p := range packets {
			if p.sent != row.sent[i] {
				t.Errorf("%s: packet %d: sent is %v", row.name, i, p.sent)
			}
		}
		if !slices.Equal(*firsts, row.firsts) || conn.waits != row.waits {
			t.Errorf("%s: got calls from %v and %d waits, want %v and %d", row.name, *firsts, conn.waits, row.firsts, row.waits)
		}
	}
}

func TestReceiveWaitsAndReturnsErrors(t *testing.T) {
	b, conn, _ := newFakeBatchIO([]answer{{-1, unix.EAGAIN}, {-1, unix.EINTR}, {5, 0}, {-1, unix.ENOMEM}, {2, 0}})
	if n, err := b.receive(); n != 5 || err != nil || conn.waits != 1 {
		t.Errorf("got %d datagrams, %v, after %d waits", n, err, conn.waits)
	}
	if n, err := b.receive(); n != 0 || !errors.Is(err, unix.ENOMEM) {
		t.Errorf("got %d datagrams, %v", n, err)
	}
	if n, err := b.receive(); n != 2 || err != nil {
		t.Errorf("after an error: got %d datagrams, %v", n, err)
	}
}

// TestRuntimeIsToldOfAFlood receives without waiting. A goroutine that makes only raw system
// calls would not be interrupted.
func TestRuntimeIsToldOfAFlood(t *testing.T) {
	var answers []answer
	for range maxRawBatches {
		answers = append(answers, answer{batchSize, 0})
	}
	b, _, _ := newFakeBatchIO(append(answers, answer{-1, unix.EAGAIN}, answer{1, 0}))
	told := 0
	b.call = func(uintptr, uintptr, *mmsghdrs, int, int) (int, syscall.Errno) {
		if told++; told == 3 {
			return -1, unix.EAGAIN
		}
		return batchSize, 0
	}
	for range maxRawBatches + 2 {
		if n, err := b.receive(); n != batchSize || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
	}
	if told != 2 {
		t.Errorf("got %d calls that the runtime knows of, want 2", told)
	}
	if n, _ := b.receive(); n != 1 || told != 3 { // waits, and then makes a raw call
		t.Errorf("got %d datagrams, and %d calls that the runtime knows of", n, told)
	}
}

// TestSystemWithoutBatches closes the socket, so that the first system call fails.
func TestSystemWithoutBatches(t *testing.T) {
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := newPacketIO(conn).(*batchIO); !ok {
		t.Error("no batches")
	}
	conn.Close()
	if _, ok := newPacketIO(conn).(*singleIO); !ok {
		t.Error("batches although system calls fail")
	}
}

func TestRawAddresses(t *testing.T) {
	for _, row := range []struct {
		addr string
		ipv6 bool
		size uint32
	}{
		{"192.0.2.1:80", false, unix.SizeofSockaddrInet4}, {"192.0.2.1:65280", true, unix.SizeofSockaddrInet6},
		{"[2001:db8::1]:4660", true, unix.SizeofSockaddrInet6}, {"[fe80::1%12]:1", true, unix.SizeofSockaddrInet6},
		{"[2001:db8::2]:1", true, unix.SizeofSockaddrInet6}, // without the zone of the one before
	} {
		var raw unix.RawSockaddrInet6
		raw.Scope_id = 7
		want := netip.MustParseAddrPort(row.addr)
		if size := putRawAddr(&raw, want, row.ipv6); size != row.size {
			t.Errorf("%s: got size %d", row.addr, size)
		}
		if got := addrPortOfRaw(&raw); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
