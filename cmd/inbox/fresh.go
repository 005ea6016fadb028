package main

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// fresh are the connections that Shutdown would wait for though nobody asks
// anything on them: those of HTTP/1.1 on which nothing was asked yet, as browsers
// open them ahead, which cost five seconds and then drop what comes; and those of
// HTTP/2, which net/http takes for busy from the first to the last. Its zero value
// is ready; it may be used by several goroutines at once.
type fresh struct {
	any   atomic.Int64 // so that a request costs no lock where there are none
	mu    sync.Mutex
	conns map[net.Conn]struct{}

	http2 sync.Map // net.Conn to *atomic.Int64: since when it is idle, in ns; 0: it is not
}

// note follows a connection, as [http.Server.ConnState].
func (f *fresh) note(c net.Conn, state http.ConnState) {
	if since, ok := f.http2.Load(c); ok {
		at := int64(0)
		if state == http.StateIdle {
			at = time.Now().UnixNano()
		}
		since.(*atomic.Int64).Store(at)
		return
	}
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

// upgraded says that a connection goes on as another, which speaks HTTP/2, until
// ended is called.
func (f *fresh) upgraded(from, to net.Conn) (ended func()) {
	since := new(atomic.Int64)
	since.Store(time.Now().UnixNano())
	f.http2.Store(to, since)
	f.note(from, http.StateActive)
	return func() { f.http2.Delete(to) }
}

// close closes them; of HTTP/2 those that were idle for so long. An answer that
// ended just now may still be on its way.
func (f *fresh) close(idle time.Duration) {
	before := time.Now().Add(-idle).UnixNano()
	f.http2.Range(func(c, since any) bool {
		if at := since.(*atomic.Int64).Load(); at > 0 && at <= before {
			leave(c.(net.Conn))
		}
		return true
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		leave(c) // the server sees it and lets go
	}
}

// leave closes a connection without waiting for it. TLS says goodbye first, for
// which it needs a lock; and who asks for new keys and does not read the answer
// makes a write hold that lock until [writeMost] is over.
func leave(c net.Conn) {
	_ = c.SetWriteDeadline(time.Now())
	go c.Close()
}
