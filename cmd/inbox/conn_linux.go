package main

import (
	"encoding/binary"
	"syscall"
)

// tcpEstablished is TCP_ESTABLISHED of the kernel's tcp_states.h.
const tcpEstablished = 1

// socketAlive looks at the socket without taking anything from it or waiting.
func socketAlive(fd uintptr) bool {
	alive, unread := peek(int(fd))
	// What is unread may hide the end behind it: TLS says goodbye before the
	// connection closes. The state tells.
	return alive && (!unread || established(int(fd)))
}

// established asks for the first four bytes of struct tcp_info, the first of
// which is the state. A socket that is not TCP has none: no news.
func established(fd int) bool {
	word, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_INFO)
	if err != nil {
		return true
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(word))
	return b[0] == tcpEstablished
}
