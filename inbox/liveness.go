package inbox

import (
	"context"
	"net"
	"net/http"
	"syscall"

	"inbox/inbox/internal/login"
	"inbox/internal/netconn"
	"inbox/internal/socket"
)

type connKey struct{}

// connState is what the handler knows of a connection.
type connState struct {
	ctx    context.Context // of the connection, with the state
	socket syscall.RawConn // nil if the connection has none
	logins login.Memory
}

// ConnContext returns a context in which [Alive] finds the socket of c, and the
// handler a salted hash of the credentials that it has read last, so that a client that
// sends the same with each request costs less. Use it as the ConnContext of an
// [http.Server], or call it from one. It unwraps TLS and other connections with a
// NetConn method down to the first [syscall.Conn]; without one, requests of c
// always count as alive. What the functions of [Config] read from the context of a
// request of a WebSocket must be in ctx.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	state := new(connState)
	if conn, ok := netconn.Find[syscall.Conn](c); ok {
		state.socket, _ = conn.SyscallConn() // nil if it is closed already
	}
	state.ctx = context.WithValue(ctx, connKey{}, state)
	return state.ctx
}

// stateOf returns the state of a request's connection, or nil without [ConnContext].
func stateOf(r *http.Request) *connState {
	state, _ := r.Context().Value(connKey{}).(*connState)
	return state
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
	state := stateOf(r)
	return state == nil || state.socket == nil || socket.Alive(state.socket)
}
