//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package socket

import "syscall"

// peekSocket reports whether the socket has not reached its end within the
// next byte, and whether that byte has arrived.
func peekSocket(fd int) (alive, unread bool) {
	var b [1]byte
	for {
		n, _, err := syscall.Recvfrom(fd, b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return true, false
		}
		return err == nil && n > 0, n > 0
	}
}
