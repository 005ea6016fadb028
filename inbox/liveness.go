package inbox

import (
	"context"
	"net"
	"net/http"
	"syscall"

	"inbox/internal/netconn"
)

type socketKey struct{}

// ConnContext returns a context from which [Alive] finds the socket of c. Use
// it as the ConnContext of an [http.Server], or call it from one. It unwraps
// TLS and other connections with a NetConn method down to the first
// [syscall.Conn]; without one, requests of c always count as alive.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	conn, ok := netconn.Find[syscall.Conn](c)
	if !ok {
		return ctx
	}
	socket, err := conn.SyscallConn()
	if err != nil {
		return ctx // closed already
	}
	return context.WithValue(ctx, socketKey{}, socket)
}

// Alive reports whether the connection of r is open as far as the kernel
// knows. The server needs [ConnContext]; without it, and on systems other than
// Linux, macOS and the BSDs, Alive is always true. Use it as [Config].Alive.
//
// The request's context ends only some time after the kernel has seen the
// client close the connection. A message that is written in between is lost.
// Alive closes that gap for HTTP/1.1 and HTTP/2. It neither blocks nor
// consumes bytes, and can be called concurrently.
func Alive(r *http.Request) bool {
	socket, ok := r.Context().Value(socketKey{}).(syscall.RawConn)
	if !ok {
		return true
	}
	open := false
	// Control rather than Read: net/http has a Read pending on the socket, and
	// another Read would queue behind it. An error means that the server has
	// closed the connection.
	err := socket.Control(func(fd uintptr) { open = socketAlive(fd) })
	return err == nil && open
}
