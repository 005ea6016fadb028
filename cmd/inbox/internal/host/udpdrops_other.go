//go:build !linux

package host

import "net"

// UDPDrops returns false: the number is unknown.
func UDPDrops(*net.UDPConn) (datagrams int64, known bool) { return 0, false }
