package conn

import (
	"net"
	"syscall"

	"inbox/internal/netconn"

	"golang.org/x/sys/unix"
)

// acknowledgedBytes returns how many bytes the peer's kernel has acknowledged in all. It is
// unknown for a socket other than TCP.
func acknowledgedBytes(c net.Conn) (n int64, known bool) {
	socket, ok := netconn.Find[syscall.Conn](c)
	if !ok {
		return 0, false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n, known = int64(info.Bytes_acked), true
		}
	})
	return n, known && err == nil
}
