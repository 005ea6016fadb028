//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package socket

// alive peeks at the socket without consuming a byte or blocking. It
// does not see a FIN behind unread bytes.
func alive(fd uintptr) bool {
	alive, _ := peekSocket(int(fd))
	return alive
}
