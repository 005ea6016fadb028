//go:build !linux

package host

import "net"

// ReceiveBuffer returns 0: the size is unknown.
func ReceiveBuffer(*net.UDPConn) int { return 0 }
