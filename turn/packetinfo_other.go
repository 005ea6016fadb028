//go:build !linux

package turn

import (
	"net"
	"net/netip"
)

const packetInfoBytes = 0

// packetInfo does nothing on this system. A host with several addresses needs a socket for
// each of them.
type packetInfo struct{}

func enablePacketInfo(*net.UDPConn) packetInfo    { return packetInfo{} }
func (packetInfo) local([]byte) netip.Addr        { return netip.Addr{} }
func (packetInfo) source(netip.Addr) (oob []byte) { return nil }
