package conn

import (
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"time"
)

// logPanic is deferred by the goroutine of a connection, so that a panic ends only the
// connection, as in net/http.
func logPanic(c net.Conn, log *log.Logger) {
	if err := recover(); err != nil && err != http.ErrAbortHandler {
		log.Printf("http: panic serving %v: %v\n%s", c.RemoteAddr(), err, debug.Stack())
	}
}

// closeNow closes a connection without waiting for it. TLS first sends close_notify and needs
// a lock for that. A client that requests a key update and does not read the response blocks
// a write that holds this lock for as long as [WriteLimit] allows.
func closeNow(c net.Conn) {
	_ = c.SetWriteDeadline(time.Now())
	go c.Close()
}
