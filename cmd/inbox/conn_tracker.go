package main

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// connTracker are the connections that Shutdown would wait for though nobody asks
// anything on them: those of HTTP/1.1 on which nothing was asked yet, as browsers
// open them ahead, which cost five seconds and then drop what comes; and those of
// HTTP/2, which net/http takes for busy from the first to the last. Its zero value
// is ready; it may be used by several goroutines at once.
type connTracker struct {
	newCount atomic.Int64 // so that a request costs no lock where there are none
	mu       sync.Mutex
	newConns map[net.Conn]struct{}

	http2IdleSince sync.Map // net.Conn to *atomic.Int64: since when it is idle, in ns; 0: it is not
}

// onState follows a connection, as [http.Server.ConnState].
func (t *connTracker) onState(c net.Conn, state http.ConnState) {
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

// trackHTTP2 says that a connection goes on as another, which speaks HTTP/2, until
// ended is called.
func (t *connTracker) trackHTTP2(from, to net.Conn) (untrack func()) {
	since := new(atomic.Int64)
	since.Store(time.Now().UnixNano())
	t.http2IdleSince.Store(to, since)
	t.onState(from, http.StateActive)
	return func() { t.http2IdleSince.Delete(to) }
}

// closeIdle closes them; of HTTP/2 those that were idle for so long. An answer that
// ended just now may still be on its way.
func (t *connTracker) closeIdle(idle time.Duration) {
	before := time.Now().Add(-idle).UnixNano()
	t.http2IdleSince.Range(func(c, since any) bool {
		if at := since.(*atomic.Int64).Load(); at > 0 && at <= before {
			closeNow(c.(net.Conn))
		}
		return true
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.newConns {
		closeNow(c) // the server sees it and lets go
	}
}

// closeNow closes a connection without waiting for it. TLS says goodbye first, for
// which it needs a lock; and who asks for new keys and does not read the answer
// makes a write hold that lock until [writeMost] is over.
func closeNow(c net.Conn) {
	_ = c.SetWriteDeadline(time.Now())
	go c.Close()
}
