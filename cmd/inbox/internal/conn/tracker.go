package conn

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Tracker tracks the connections that would delay http.Server.Shutdown although they are
// idle: HTTP/1.1 connections without a request yet, as browsers open in advance, for which
// Shutdown waits five seconds and then drops what arrives; and HTTP/2 connections, which
// net/http considers active until they end. The zero value is ready to use. All methods can
// be called concurrently.
type Tracker struct {
	newCount atomic.Int64 // so that requests need no lock while there are no new connections
	mu       sync.Mutex
	newConns map[net.Conn]struct{}

	http2IdleSince sync.Map // net.Conn to *atomic.Int64: idle since, in Unix nanoseconds; 0 if active
}

// OnState follows the state of a connection, as http.Server.ConnState.
func (t *Tracker) OnState(c net.Conn, state http.ConnState) {
	if since, ok := t.http2IdleSince.Load(c); ok {
		at := int64(0)
		if state == http.StateIdle {
			at = time.Now().UnixNano()
		}
		since.(*atomic.Int64).Store(at)
		return
	}
	if state != http.StateNew && t.newCount.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.newConns == nil {
		t.newConns = map[net.Conn]struct{}{}
	}
	delete(t.newConns, c)
	if state == http.StateNew {
		t.newConns[c] = struct{}{}
	}
	t.newCount.Store(int64(len(t.newConns)))
}

// trackHTTP2 records that the connection from continues as to, which carries HTTP/2, until
// untrack is called.
func (t *Tracker) trackHTTP2(from, to net.Conn) (untrack func()) {
	since := new(atomic.Int64)
	since.Store(time.Now().UnixNano())
	t.http2IdleSince.Store(to, since)
	t.OnState(from, http.StateActive)
	return func() { t.http2IdleSince.Delete(to) }
}

// CloseIdle closes the tracked connections: all HTTP/1.1 connections without a request, and
// HTTP/2 connections that have been idle for at least minIdle, because the end of a recent
// response can still be in transit.
func (t *Tracker) CloseIdle(minIdle time.Duration) {
	before := time.Now().Add(-minIdle).UnixNano()
	t.http2IdleSince.Range(func(c, since any) bool {
		if at := since.(*atomic.Int64).Load(); at > 0 && at <= before {
			closeNow(c.(net.Conn))
		}
		return true
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.newConns {
		closeNow(c) // the server detects the close and removes the connection
	}
}

// closeNow closes a connection without waiting for it. TLS first sends close_notify and needs
// a lock for that. A client that requests a key update and does not read the response blocks
// a write that holds this lock for up to [maxWriteTime].
func closeNow(c net.Conn) {
	_ = c.SetWriteDeadline(time.Now())
	go c.Close()
}
