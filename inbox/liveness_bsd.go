//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package inbox

// socketAlive peeks at the socket without consuming a byte or blocking. It
// does not see a FIN behind unread bytes.
func socketAlive(fd uintptr) bool {
	alive, _ := peekSocket(int(fd))
	return alive
}
