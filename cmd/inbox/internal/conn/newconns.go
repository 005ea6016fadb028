package conn

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// newConns tracks the HTTP/1.1 connections without a request yet, as browsers open in advance.
// http.Server.Shutdown waits five seconds for them and then drops what arrives. The zero value
// is ready to use.
type newConns struct {
	count atomic.Int64 // so that requests need no lock while there are no new connections
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// onState follows the state of a connection, as http.Server.ConnState.
func (n *newConns) onState(c net.Conn, state http.ConnState) {
	if state != http.StateNew && n.count.Load() == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns == nil {
		n.conns = make(map[net.Conn]struct{})
	}
	delete(n.conns, c)
	if state == http.StateNew {
		n.conns[c] = struct{}{}
	}
	n.count.Store(int64(len(n.conns)))
}

// close closes the connections. The server detects it and reports their state.
func (n *newConns) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		closeNow(c)
	}
}
