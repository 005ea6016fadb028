//go:build unix

package sdnotify

import "syscall"

// isListening asks the kernel: Go takes any stream socket for a listener, and
// fails only when it accepts.
func isListening(fd uintptr) bool {
	on, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	return err == nil && on != 0
}
