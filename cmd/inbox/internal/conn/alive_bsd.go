//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package conn

// socketAlive checks the socket without consuming bytes or blocking. It does not detect an end
// of the stream behind unread bytes.
func socketAlive(fd uintptr) bool {
	alive, _ := peek(int(fd))
	return alive
}
