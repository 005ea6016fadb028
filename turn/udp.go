package turn

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// firstClientPort is the lowest source port that gets an answer. Below it are services
	// that would react to the answer to a forged request.
	firstClientPort = 1024
	// readErrorDelay keeps a socket that fails permanently from using a processor.
	readErrorDelay = 10 * time.Millisecond
)

// udpSocket is a socket with its clients.
type udpSocket struct {
	s          *Server
	conn       *net.UDPConn
	packetInfo packetInfo
	io         packetIO
	queue      []outgoing // to clients of this socket, until all that was received is handled

	mu      sync.RWMutex
	clients map[fiveTuple]*allocation
}

// fiveTuple identifies a client of a socket. The local address is the zero address if the
// system does not tell it.
type fiveTuple struct {
	client netip.AddrPort
	local  netip.Addr
}

func newUDPSocket(s *Server, c *net.UDPConn) *udpSocket {
	return &udpSocket{
		s: s, conn: c, packetInfo: enablePacketInfo(c), io: newPacketIO(c), clients: make(map[fiveTuple]*allocation),
	}
}

// ServeUDP serves a socket until Close, which closes the socket, and then returns nil. An
// answer has the address as its source that the request was sent to, on systems that tell it
// (Linux). One goroutine reads the socket, so its receive buffer should hold what arrives in
// 100 ms.
func (s *Server) ServeUDP(c *net.UDPConn) error {
	u := newUDPSocket(s, c)
	if !s.addSocket(c) {
		return c.Close()
	}
	defer s.running.Done()
	for {
		err := u.receive()
		switch {
		case err == nil:
		case s.isClosed():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			time.Sleep(readErrorDelay)
		}
	}
}

func (s *Server) addSocket(c *net.UDPConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Add(1)
	s.sockets[c] = struct{}{}
	return true
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// receive waits for datagrams and handles them. Packets leave in the order in which they came.
func (u *udpSocket) receive() error {
	n, err := u.io.receive()
	if err != nil {
		return err
	}
	for i := range n {
		m, from, oob := u.io.datagram(i)
		u.s.counters.drop(u.handle(m, fiveTuple{from, u.packetInfo.local(oob)}))
	}
	u.flush()
	return nil
}

// handle handles a message, whose size tells whether it was cut off.
func (u *udpSocket) handle(m message, source fiveTuple) dropReason {
	if source.client.Port() < firstClientPort {
		return dropLowPort
	}
	if m.end-m.start > maxMessageBytes {
		return dropTooLarge
	}
	switch m.kind() {
	case kindChannelData, kindSend:
		return u.relay(u.allocation(source), m)
	case kindRequest:
		u.flush() // a request takes longer than the packets before it should wait
		c := &udpClient{u, source, u.packetInfo.source(source.local)}
		u.s.serveRequest(c, u.allocation(source), m.bytes())
	case kindUnknown:
		return dropMalformed
	}
	return notDropped
}

// relay queues a message for a client of the same socket, and sends it to any other.
func (u *udpSocket) relay(from *allocation, m message) dropReason {
	p, reason := u.s.route(from, m)
	if reason != notDropped {
		return reason
	}
	if c, ok := p.to.client.(*udpClient); !ok || c.socket != u {
		return u.s.sent(p, p.to.client.relay(p.packet))
	}
	u.queue = append(u.queue, p)
	return notDropped
}

// flush sends the queue.
func (u *udpSocket) flush() {
	if len(u.queue) == 0 {
		return
	}
	u.io.send(u.queue)
	for _, p := range u.queue {
		reason := dropSendFailed
		if p.sent {
			reason = notDropped
		}
		u.s.counters.drop(u.s.sent(p, reason))
	}
	clear(u.queue)
	u.queue = u.queue[:0]
}

func (u *udpSocket) allocation(source fiveTuple) *allocation {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.clients[source]
}

// udpClient is a client of a socket.
type udpClient struct {
	socket *udpSocket
	fiveTuple
	source []byte // the control message that sets the source address
}

func (c *udpClient) transport() transport { return overUDP }
func (c *udpClient) addr() netip.AddrPort { return c.client }

func (c *udpClient) admit(proven bool) bool {
	if proven {
		return c.socket.s.config.AllowProven(c.client.Addr())
	}
	return c.socket.s.config.AllowUnauthenticated(c.client.Addr())
}

func (c *udpClient) relay(b []byte) dropReason {
	if _, _, err := c.socket.conn.WriteMsgUDPAddrPort(b, c.source, c.client); err != nil {
		return dropSendFailed
	}
	return notDropped
}

func (c *udpClient) answer(b []byte) { c.socket.s.counters.drop(c.relay(b)) }

func (c *udpClient) attach(a *allocation) {
	c.socket.mu.Lock()
	defer c.socket.mu.Unlock()
	c.socket.clients[c.fiveTuple] = a
}

func (c *udpClient) detach(a *allocation) {
	c.socket.mu.Lock()
	defer c.socket.mu.Unlock()
	if c.socket.clients[c.fiveTuple] == a {
		delete(c.socket.clients, c.fiveTuple)
	}
}
