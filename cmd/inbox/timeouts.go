package main

import (
	"net/http"
	"time"
)

// timeouts bound the phases of a connection, and of the shutdown.
type timeouts struct {
	header, body, idle, write time.Duration
	shutdown                  time.Duration // for in-flight posts during shutdown
	drain                     time.Duration // part of shutdown, for requests still in transit
	saveStall                 time.Duration // without progress on disk while mailboxes are saved
	save                      time.Duration // for saving all mailboxes
}

// idleTimeoutTLS is the idle timeout of TLS connections. It is also how long net/http can
// retain the memory of a closed HTTP/2 connection.
const idleTimeoutTLS = 30 * time.Second

func defaultTimeouts() timeouts {
	return timeouts{
		header:   10 * time.Second,
		body:     30 * time.Second,
		idle:     2 * time.Minute,
		write:    30 * time.Second,
		shutdown: 10 * time.Second,
		// Twice the round trip to a distant phone.
		drain:     500 * time.Millisecond,
		saveStall: 45 * time.Second,
		// Enough for 4 GiB at 5 MB/s.
		save: 15 * time.Minute,
	}
}

// limitBody sets a read deadline for request bodies. Server.ReadTimeout would include the
// header. Without a deadline, a slow body that no handler reads would hold the connection
// open forever, as net/http first reads the rest of it. net/http clears the deadline once
// the body is complete, so a poll can be held longer.
func limitBody(timeout time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 { // -1 is a body of unknown length
			// An error means that w does not support deadlines, like a test's recorder.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout))
		}
		next.ServeHTTP(w, r)
	})
}
