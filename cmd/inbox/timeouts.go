package main

import (
	"net/http"
	"sync/atomic"
	"time"
)

// timeouts are the patience the server has with one client, and with all of them at its end.
type timeouts struct {
	header, body, idle, write time.Duration
	shutdown                  time.Duration // for posts, once the server stops
	drain                     time.Duration // of it, for requests on their way
	saveStall                 time.Duration // for the next bit to reach the disk, while mailboxes are saved
	save                      time.Duration // for all of them
}

// idleTimeoutTLS is the patience with an idle connection when we speak TLS. It is
// also how long net/http keeps the memory of some connections that are gone.
const idleTimeoutTLS = 30 * time.Second

func defaultTimeouts() timeouts {
	return timeouts{
		header:   10 * time.Second,
		body:     30 * time.Second,
		idle:     2 * time.Minute,
		write:    30 * time.Second,
		shutdown: 10 * time.Second,
		// Twice the way to a far phone.
		drain:     500 * time.Millisecond,
		saveStall: 45 * time.Second,
		// 4 GiB at 5 MB/s.
		save: 15 * time.Minute,
	}
}

// limitBody gives every body its time. net/http's ReadTimeout would bound the
// header with it, and without any a slow body that no handler reads would hold
// the connection for ever: net/http reads the rest of it first. Once the body
// is complete net/http takes the deadline away, so that a wait may be longer.
func limitBody(timeout time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 { // -1 is a body of unknown length
			// An error means a connection that knows no deadline, as in a test's recorder.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout))
		}
		next.ServeHTTP(w, r)
	})
}

// limitHeader refuses headers of more than size bytes. net/http stops reading
// at its own limit, which is 4096 bytes later over HTTP/1 and counts otherwise over HTTP/2.
func limitHeader(size int64, refused *atomic.Int64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if headerSize(r) > size {
			refused.Add(1)
			if r.ProtoMajor < 2 { // over HTTP/2 it would end the other requests' connection
				w.Header().Set("Connection", "close")
			}
			http.Error(w, "the header of the request is too large", http.StatusRequestHeaderFieldsTooLarge)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// headerSize is what the header of a request takes on the wire of HTTP/1.1.
func headerSize(r *http.Request) int64 {
	const spaces, colon, end = 2, 2, 2 // «GET / HTTP/1.1», «Host: », «\r\n»
	n := len(r.Method) + len(r.RequestURI) + len(r.Proto) + spaces + end
	n += len("Host") + colon + len(r.Host) + end
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + colon + len(v) + end
		}
	}
	return int64(n + end)
}
