package socket

import (
	"encoding/binary"
	"syscall"
)

// tcpEstablished is TCP_ESTABLISHED of the kernel's tcp_states.h.
const tcpEstablished = 1

// alive peeks at the socket without consuming a byte or blocking.
// Unread bytes can hide a FIN behind them, as a close_notify alert of TLS
// does; then the TCP state decides.
func alive(fd uintptr) bool {
	alive, unread := peekSocket(int(fd))
	return alive && (!unread || established(int(fd)))
}

// established reads the first four bytes of struct tcp_info, of which the
// first is the state. A socket other than TCP has no such state and counts as
// established.
func established(fd int) bool {
	word, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_INFO)
	if err != nil {
		return true
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(word))
	return b[0] == tcpEstablished
}
