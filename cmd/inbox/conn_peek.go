//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package main

import "syscall"

// peek reports whether the socket can still bring something, as far as is
// known without reading past the next byte, and whether that byte is there.
func peek(fd int) (alive, unread bool) {
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
