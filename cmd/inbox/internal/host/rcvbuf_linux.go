package host

import (
	"net"
	"syscall"
)

// ReceiveBuffer returns the size of a socket's receive buffer in bytes, as SetReadBuffer sets
// it; 0 if it is unknown. The kernel limits it to net.core.rmem_max.
func ReceiveBuffer(c *net.UDPConn) (bytes int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	err = raw.Control(func(fd uintptr) {
		if n, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF); err == nil {
			bytes = n / 2 // the kernel doubles it for its own use
		}
	})
	if err != nil {
		return 0
	}
	return bytes
}
