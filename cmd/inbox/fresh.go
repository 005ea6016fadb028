package main

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// fresh are the connections on which nothing was asked yet. Browsers open such
// ahead, and Shutdown waits five seconds for each, only to drop what comes. Its
// zero value is ready; it may be used by several goroutines at once.
type fresh struct {
	any   atomic.Int64 // so that a request costs no lock where there are none
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// note follows a connection, as [http.Server.ConnState].
func (f *fresh) note(c net.Conn, state http.ConnState) {
	if state != http.StateNew && f.any.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conns == nil {
		f.conns = map[net.Conn]struct{}{}
	}
	delete(f.conns, c)
	if state == http.StateNew {
		f.conns[c] = struct{}{}
	}
	f.any.Store(int64(len(f.conns)))
}

// close closes them.
func (f *fresh) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		c.Close() // the server sees it and lets go
	}
}
