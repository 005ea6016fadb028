//go:build !linux

package turn

import "net"

func newPacketIO(conn *net.UDPConn) packetIO { return newSingleIO(conn) }
