package socket

import (
	"encoding/binary"
	"syscall"
)

// States of the kernel's tcp_states.h in which the peer can send: TCP_ESTABLISHED, and those after
// this side has ended, TCP_FIN_WAIT1 and TCP_FIN_WAIT2.
const tcpEstablished, tcpFinWait1, tcpFinWait2 = 1, 4, 5

// alive peeks at the socket without consuming a byte or blocking.
// Unread bytes can hide a FIN behind them, as a close_notify alert of TLS
// does; then the TCP state decides.
func alive(fd uintptr) bool {
	alive, unread := peekSocket(int(fd))
	return alive && (!unread || canReceive(int(fd)))
}

// canReceive reads the first four bytes of struct tcp_info, of which the
// first is the state. A socket other than TCP has no such state and counts as
// established.
func canReceive(fd int) bool {
	word, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_INFO)
	if err != nil {
		return true
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(word))
	return b[0] == tcpEstablished || b[0] == tcpFinWait1 || b[0] == tcpFinWait2
}
