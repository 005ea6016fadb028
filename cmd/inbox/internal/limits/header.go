package limits

import (
	"net/http"
	"sync/atomic"

	"inbox/internal/problem"
)

var headerTooLarge = problem.New(http.StatusRequestHeaderFieldsTooLarge, "header-too-large",
	"The header of the request is too large", "Send fewer or shorter fields, and a shorter address.")

// HeaderLimiter is a middleware that refuses requests with large headers. net/http has a limit
// of its own, but reads 4096 bytes more over HTTP/1 and counts differently over HTTP/2.
type HeaderLimiter struct {
	// MaxBytes bounds the header, as it is on the wire of HTTP/1.1.
	MaxBytes int64

	refused atomic.Int64
}

// Refused returns how many requests were refused.
func (l *HeaderLimiter) Refused() int64 { return l.refused.Load() }

// Handler returns next behind the limit.
func (l *HeaderLimiter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if headerBytes(r) > l.MaxBytes {
			l.refused.Add(1)
			if r.ProtoMajor < 2 { // over HTTP/2, it would end the connection's other requests
				w.Header().Set("Connection", "close")
			}
			headerTooLarge.Respond(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// headerBytes returns the size of a request's header on the wire of HTTP/1.1.
func headerBytes(r *http.Request) int64 {
	const spaces, colon, end = 2, 2, 2 // "GET / HTTP/1.1", "Host: ", "\r\n"
	n := len(r.Method) + len(r.RequestURI) + len(r.Proto) + spaces + end
	n += len("Host") + colon + len(r.Host) + end
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + colon + len(v) + end
		}
	}
	return int64(n + end)
}
