package turn

import (
	"net"
	"net/netip"
)

// bufferBytes is the room for one message of a client and what is written around it. One byte
// more than a message can have tells that a datagram was cut off.
const bufferBytes = headroomBytes + maxMessageBytes + 1 + tailroomBytes

// packetIO receives and sends the datagrams of a UDP socket. Only the goroutine that reads the
// socket uses it. It allocates no memory.
type packetIO interface {
	// receive waits for datagrams and returns their number, at least one, or an error.
	receive() (int, error)
	// datagram returns the i-th received datagram, its source, and its control messages. They
	// are valid until the next call of receive.
	datagram(i int) (m message, from netip.AddrPort, oob []byte)
	// send sends packets to UDP clients, no more than receive has returned, and sets sent in
	// each that the system accepted. The failure of one does not affect the others. It waits
	// while the send buffer of the socket is full.
	send(packets []outgoing)
}

// singleIO is a packetIO with one datagram per system call. All systems have it.
type singleIO struct {
	conn     *net.UDPConn
	buf, oob []byte
	bytes    int
	oobBytes int
	from     netip.AddrPort
}

func newSingleIO(conn *net.UDPConn) *singleIO {
	return &singleIO{conn: conn, buf: make([]byte, bufferBytes), oob: make([]byte, packetInfoBytes)}
}

func (s *singleIO) receive() (n int, err error) {
	s.bytes, s.oobBytes, _, s.from, err = s.conn.ReadMsgUDPAddrPort(s.buf[headroomBytes:bufferBytes-tailroomBytes], s.oob)
	if err != nil {
		return 0, err
	}
	return 1, nil
}

func (s *singleIO) datagram(int) (message, netip.AddrPort, []byte) {
	from := netip.AddrPortFrom(s.from.Addr().Unmap(), s.from.Port())
	return message{s.buf, headroomBytes, headroomBytes + s.bytes}, from, s.oob[:s.oobBytes]
}

func (s *singleIO) send(packets []outgoing) {
	for i := range packets {
		p := &packets[i]
		p.sent = p.to.client.relay(p.packet) == notDropped
	}
}
