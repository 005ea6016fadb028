//go:build unix

package netconn

import (
	"io"
	"os"
	"syscall"
)

// initReceive prepares for receiving from the socket without a wait.
func (c *FetchConn) initReceive() {
	socket, ok := Find[syscall.Conn](c.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return // closed already, as a read will report
	}
	c.raw, c.receive = raw, c.receiveNow
}

// receiveNow receives what has arrived, and reports whether there was something or the stream has
// ended. The buffer exists only during the call.
func (c *FetchConn) receiveNow(fd uintptr) bool {
	buffer := fetchBuffers.Get().(*fetchBuffer)
	n, err := readNow(fd, buffer[:])
	for err == syscall.EINTR {
		n, err = readNow(fd, buffer[:])
	}
	c.received(buffer, n)
	switch {
	case n > 0:
	case err == syscall.EAGAIN:
		return false
	case err != nil:
		c.err = os.NewSyscallError("read", err)
	default:
		c.err = io.EOF
	}
	return true
}
