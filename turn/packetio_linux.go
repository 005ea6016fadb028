package turn

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize bounds the datagrams of one system call. Sending as many takes about 80 µs.
	batchSize = 16
	// maxRawBatches is how many batches in a row are received without waiting before the
	// runtime is told of the system calls.
	maxRawBatches = 4
)

// batchIO is a packetIO with one system call for all datagrams that wait, up to batchSize.
//
// The system calls are raw, which is possible as they do not wait: the runtime is not told of
// them. Otherwise each call after an idle moment wakes the runtime's monitor thread, which costs
// about as much as receiving a datagram. But this thread also interrupts a goroutine that does
// not wait; without it, a flood would stop the whole server on one processor. So the calls are
// no longer raw when datagrams arrive faster than they are handled.
type batchIO struct {
	conn     syscall.RawConn
	ipv6     bool
	in, out  mmsghdrs
	bufs     [batchSize][bufferBytes]byte
	oobs     [batchSize][packetInfoBytes]byte
	received int
	err      error
	batches  int        // received without waiting
	packets  []outgoing // in send
	next     int        // of packets

	// rawCall and call are functions of the same names, except in tests.
	rawCall, call mmsgCall
	// recvmmsg and sendmmsg are receiveNow and sendNow: each use of a method as a value would
	// allocate memory.
	recvmmsg, sendmmsg func(fd uintptr) bool
}

// mmsghdrs are the arguments of recvmmsg or sendmmsg.
type mmsghdrs struct {
	messages [batchSize]struct {
		unix.Msghdr
		bytes uint32
	}
	iovecs [batchSize]unix.Iovec
	addrs  [batchSize]unix.RawSockaddrInet6 // an IPv4 address takes less of it
}

func (h *mmsghdrs) init() {
	for i := range h.messages {
		h.messages[i].Name = (*byte)(unsafe.Pointer(&h.addrs[i]))
		h.messages[i].Iov = &h.iovecs[i]
		h.messages[i].SetIovlen(1)
	}
}

// mmsgCall passes the messages from first to last, without it, to recvmmsg or sendmmsg.
type mmsgCall func(trap, fd uintptr, h *mmsghdrs, first, last int) (n int, errno syscall.Errno)

func rawCall(trap, fd uintptr, h *mmsghdrs, first, last int) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(&h.messages[first])), uintptr(last-first), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func call(trap, fd uintptr, h *mmsghdrs, first, last int) (int, syscall.Errno) {
	n, _, errno := unix.Syscall6(trap, fd, uintptr(unsafe.Pointer(&h.messages[first])), uintptr(last-first), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// newPacketIO returns a batchIO, or a singleIO if a filter of system calls refuses those of a
// batch.
func newPacketIO(conn *net.UDPConn) packetIO {
	if b := newBatchIO(conn); b != nil {
		return b
	}
	return newSingleIO(conn)
}

// newBatchIO returns nil if the system refuses the system calls.
func newBatchIO(conn *net.UDPConn) *batchIO {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	b := &batchIO{conn: raw, received: batchSize, rawCall: rawCall, call: call}
	b.recvmmsg, b.sendmmsg = b.receiveNow, b.sendNow
	supported := false
	raw.Control(func(fd uintptr) {
		domain, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		b.ipv6 = domain == unix.AF_INET6
		_, noReceive := rawCall(unix.SYS_RECVMMSG, fd, &b.in, 0, 0)
		_, noSend := rawCall(unix.SYS_SENDMMSG, fd, &b.out, 0, 0)
		supported = err == nil && noReceive == 0 && noSend == 0
	})
	if !supported {
		return nil
	}
	b.in.init()
	b.out.init()
	for i := range b.bufs {
		b.in.iovecs[i].Base = &b.bufs[i][headroomBytes]
		b.in.iovecs[i].SetLen(bufferBytes - headroomBytes - tailroomBytes)
		b.in.messages[i].Control = &b.oobs[i][0]
	}
	return b
}

// mmsg is one system call. It repeats those that a signal interrupts.
func (b *batchIO) mmsg(trap, fd uintptr, h *mmsghdrs, first, last int) (n int, errno syscall.Errno) {
	call := b.rawCall
	if b.batches > maxRawBatches {
		call = b.call
	}
	for {
		if n, errno = call(trap, fd, h, first, last); errno != unix.EINTR {
			return n, errno
		}
	}
}

func (b *batchIO) receive() (int, error) {
	for i := range b.received { // the system has overwritten these
		b.in.messages[i].Namelen = unix.SizeofSockaddrInet6
		b.in.messages[i].SetControllen(packetInfoBytes)
	}
	b.received, b.err = 0, nil
	b.batches++
	if err := b.conn.Read(b.recvmmsg); err != nil {
		return 0, err
	}
	return b.received, b.err
}

// receiveNow returns false if no datagram waits.
func (b *batchIO) receiveNow(fd uintptr) bool {
	n, errno := b.mmsg(unix.SYS_RECVMMSG, fd, &b.in, 0, batchSize)
	switch errno {
	case 0:
		b.received = n
	case unix.EAGAIN:
		b.batches = 0
		return false
	default:
		b.err = errno
	}
	return true
}

func (b *batchIO) datagram(i int) (message, netip.AddrPort, []byte) {
	m := &b.in.messages[i]
	return message{b.bufs[i][:], headroomBytes, headroomBytes + int(m.bytes)}, addrPortOfRaw(&b.in.addrs[i]), b.oobs[i][:m.Controllen]
}

func (b *batchIO) send(packets []outgoing) {
	for i := range packets {
		to, m := packets[i].to.client.(*udpClient), &b.out.messages[i]
		m.Namelen = putRawAddr(&b.out.addrs[i], to.client, b.ipv6)
		m.Control = unsafe.SliceData(to.source)
		m.SetControllen(len(to.source))
		b.out.iovecs[i].Base = unsafe.SliceData(packets[i].packet)
		b.out.iovecs[i].SetLen(len(packets[i].packet))
	}
	b.packets, b.next = packets, 0
	_ = b.conn.Write(b.sendmmsg) // fails if the socket is closed, and the rest is not sent
}

// sendNow returns false if the send buffer is full. The system stops at a packet that it does
// not accept, and returns the error when this packet is the first one.
func (b *batchIO) sendNow(fd uintptr) bool {
	for b.next < len(b.packets) {
		n, errno := b.mmsg(unix.SYS_SENDMMSG, fd, &b.out, b.next, len(b.packets))
		if errno == unix.EAGAIN {
			return false
		}
		if errno != 0 || n < 1 {
			b.next++
			continue
		}
		for range n {
			b.packets[b.next].sent = true
			b.next++
		}
	}
	return true
}

// addrPortOfRaw returns an IPv4 address also for a mapped one. The zone of an IPv6 address is
// the number of the interface.
func addrPortOfRaw(raw *unix.RawSockaddrInet6) netip.AddrPort {
	if raw.Family == unix.AF_INET {
		raw := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw))
		return netip.AddrPortFrom(netip.AddrFrom4(raw.Addr), hostOrder(raw.Port))
	}
	addr := netip.AddrFrom16(raw.Addr).Unmap()
	if raw.Scope_id != 0 {
		addr = addr.WithZone(strconv.FormatUint(uint64(raw.Scope_id), 10))
	}
	return netip.AddrPortFrom(addr, hostOrder(raw.Port))
}

// putRawAddr writes the address as a socket of IPv4 or IPv6 expects it, and returns its size.
func putRawAddr(raw *unix.RawSockaddrInet6, addr netip.AddrPort, ipv6 bool) (size uint32) {
	if !ipv6 {
		raw := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw))
		raw.Family, raw.Port, raw.Addr = unix.AF_INET, hostOrder(addr.Port()), addr.Addr().As4()
		return unix.SizeofSockaddrInet4
	}
	raw.Family, raw.Port, raw.Addr, raw.Scope_id = unix.AF_INET6, hostOrder(addr.Port()), addr.Addr().As16(), 0
	if zone := addr.Addr().Zone(); zone != "" {
		scope, _ := strconv.ParseUint(zone, 10, 32) // of addrPortOfRaw
		raw.Scope_id = uint32(scope)
	}
	return unix.SizeofSockaddrInet6
}

// hostOrder converts a port between the order of the network and that of the processor.
func hostOrder(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}
