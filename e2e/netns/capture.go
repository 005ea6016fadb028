package netns

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Packet is an IP packet that a host has sent.
type Packet struct {
	Protocol uint8 // such as 17 for UDP
	To       netip.AddrPort
}

// Traffic is a number of packets, and their bytes with IP headers.
type Traffic struct{ Packets, Bytes int }

// Capture records the IP packets that a host sends on all its interfaces, loopback
// included. Neighbor discovery is left out.
type Capture struct {
	socket *os.File
	done   chan struct{}

	mu   sync.Mutex
	sent map[Packet]Traffic
}

// Capture begins to record the packets that a host sends.
func (n Network) Capture(host string) (*Capture, error) {
	c := &Capture{done: make(chan struct{}), sent: map[Packet]Traffic{}}
	err := n.Do(host, func() error {
		const allProtocols = 0x0300 // ETH_P_ALL in network byte order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, allProtocols)
		if err != nil {
			return fmt.Errorf("open a packet socket: %w", err)
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) // more packets fit into the default
		c.socket = os.NewFile(uintptr(fd), "packets of "+host)
		return nil
	})
	if err != nil {
		return nil, err
	}
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	go c.run(raw)
	return c, nil
}

// run reads packets until the socket is closed.
func (c *Capture) run(raw syscall.RawConn) {
	defer close(c.done)
	buf := make([]byte, 128)
	for {
		var size int
		var from unix.Sockaddr
		var err error
		closed := raw.Read(func(fd uintptr) bool {
			size, from, err = unix.Recvfrom(int(fd), buf, unix.MSG_TRUNC) // size is that of the packet
			return err != unix.EAGAIN
		})
		if closed != nil {
			return
		}
		if link, ok := from.(*unix.SockaddrLinklayer); ok && err == nil && link.Pkttype == unix.PACKET_OUTGOING {
			c.record(buf[:min(size, len(buf))], size)
		}
	}
}

func (c *Capture) record(ip []byte, size int) {
	p, ok := parseIP(ip)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent[p] = Traffic{c.sent[p].Packets + 1, c.sent[p].Bytes + size}
}

// Sent returns the traffic by destination so far.
func (c *Capture) Sent() map[Packet]Traffic {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.sent)
}

// Close ends the recording.
func (c *Capture) Close() error {
	err := c.socket.Close()
	<-c.done
	return err
}

// parseIP parses an IP packet without extension headers. It is false for anything else, such
// as ARP, and for neighbor discovery and multicast listener reports.
func parseIP(b []byte) (p Packet, ok bool) {
	var to netip.Addr
	var rest []byte
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		to, _ = netip.AddrFromSlice(b[16:20])
		p.Protocol, rest = b[9], b[min(int(b[0]&0xf)*4, len(b)):]
	case len(b) >= 40 && b[0]>>4 == 6:
		to, _ = netip.AddrFromSlice(b[24:40])
		p.Protocol, rest = b[6], b[40:]
		const hopByHop, neighborSolicitation, neighborAdvertisement = 0, 135, 136
		if p.Protocol == hopByHop || p.Protocol == unix.IPPROTO_ICMPV6 && len(rest) > 0 &&
			(rest[0] == neighborSolicitation || rest[0] == neighborAdvertisement || to.IsMulticast()) {
			return p, false
		}
	default:
		return p, false
	}
	port := uint16(0)
	if (p.Protocol == unix.IPPROTO_UDP || p.Protocol == unix.IPPROTO_TCP) && len(rest) >= 4 {
		port = binary.BigEndian.Uint16(rest[2:])
	}
	p.To = netip.AddrPortFrom(to, port)
	return p, true
}
