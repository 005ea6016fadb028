// Package socket asks the kernel about the connection of a socket.
package socket

import "syscall"

// Alive reports whether the connection is open as far as the kernel knows; always, on systems
// other than Linux, macOS and the BSDs. It neither blocks nor consumes bytes, and can be called
// concurrently.
func Alive(c syscall.RawConn) bool {
	open := false
	// Control rather than Read: net/http has a Read pending on the socket, and another Read would
	// queue behind it. An error means that this process has closed the connection.
	err := c.Control(func(fd uintptr) { open = alive(fd) })
	return err == nil && open
}
