package conn

import (
	"encoding/binary"
	"syscall"
)

// tcpEstablished is TCP_ESTABLISHED in the kernel's tcp_states.h.
const tcpEstablished = 1

// socketAlive checks the socket without consuming bytes or blocking.
func socketAlive(fd uintptr) bool {
	alive, unread := peek(int(fd))
	// The end of the stream can be behind unread bytes, because TLS sends close_notify before
	// the connection closes. The TCP state shows it.
	return alive && (!unread || established(int(fd)))
}

// established reads the first four bytes of struct tcp_info, the first of which is the state.
// It is true for a socket that is not TCP.
func established(fd int) bool {
	word, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_INFO)
	if err != nil {
		return true
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(word))
	return b[0] == tcpEstablished
}
