package turn

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// packetInfoBytes is the room for the control message of a datagram.
const packetInfoBytes = 64

// packetInfo tells which local address a datagram was sent to, and sets it as the source of
// an answer. Without it, the system answers from the first address of the route, and a
// client that asked another address of the same host drops the answer.
type packetInfo struct{ enabled, ipv6 bool }

// enablePacketInfo returns a packetInfo that does nothing if the system refuses. A
// dual-stack socket reports IPv4 addresses as mapped ones.
func enablePacketInfo(c *net.UDPConn) (info packetInfo) {
	raw, err := c.SyscallConn()
	if err != nil {
		return packetInfo{}
	}
	raw.Control(func(fd uintptr) {
		domain, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			return
		}
		level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
		if info.ipv6 = domain == unix.AF_INET6; info.ipv6 {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
		}
		info.enabled = unix.SetsockoptInt(int(fd), level, option, 1) == nil
	})
	return info
}

// local returns the address that a datagram was sent to, or the zero address.
func (info packetInfo) local(oob []byte) netip.Addr {
	for info.enabled && len(oob) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		switch {
		case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= 16:
			return netip.AddrFrom16([16]byte(data)).Unmap()
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) >= 8:
			return netip.AddrFrom4([4]byte(data[4:])) // ipi_spec_dst
		}
		oob = rest
	}
	return netip.Addr{}
}

// source returns the control message that sets the source of a datagram. The interface
// follows from the route.
func (info packetInfo) source(local netip.Addr) []byte {
	switch {
	case !local.IsValid():
		return nil
	case info.ipv6:
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: local.As16()})
	case local.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: local.As4()})
	}
	return nil
}
