//go:build unix

package sdnotify

import "syscall"

// isListening reports whether fd is in listening state. [net.FileListener] accepts
// any stream socket and fails only in Accept.
func isListening(fd uintptr) bool {
	on, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	return err == nil && on != 0
}
