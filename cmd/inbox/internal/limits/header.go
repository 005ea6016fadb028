package limits

import (
	"net/http"
	"sync/atomic"

	"inbox/internal/problem"
)

var headerTooLarge = problem.New(http.StatusRequestHeaderFieldsTooLarge, "header-too-large",
	"The header of the request is too large", "Send fewer or shorter fields, and a shorter address.")

// HeaderLimiter is a middleware that refuses requests with large headers. net/http has a limit
// of its own, but counts differently over HTTP/2 and does not limit the number of fields, each
// of which costs memory.
type HeaderLimiter struct {
	// MaxBytes bounds the header, as it is on the wire of HTTP/1.1.
	MaxBytes int64
	// MaxFields bounds the number of fields; zero is no limit.
	MaxFields int
	// Keep lists the fields that a refusal needs. The others are dropped, so that a delayed
	// refusal does not keep them in memory.
	Keep []string

	refused atomic.Int64
}

// Refused returns how many requests were refused.
func (l *HeaderLimiter) Refused() int64 { return l.refused.Load() }

// Handler returns a middleware. Its refusals pass through limit, which can bound their rate.
func (l *HeaderLimiter) Handler(limit func(http.Handler) http.Handler) func(http.Handler) http.Handler {
	refuse := limit(http.HandlerFunc(l.refuse))
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if bytes, fields := headerSize(r); bytes <= l.MaxBytes && (l.MaxFields == 0 || fields <= l.MaxFields) {
				next.ServeHTTP(w, r)
				return
			}
			l.trim(r)
			refuse.ServeHTTP(w, r)
		})
	}
}

func (l *HeaderLimiter) refuse(w http.ResponseWriter, r *http.Request) {
	l.refused.Add(1)
	if r.ProtoMajor < 2 { // over HTTP/2, it would end the connection's other requests
		w.Header().Set("Connection", "close")
	}
	headerTooLarge.Respond(w, r)
}

// trim drops all fields except those to keep.
func (l *HeaderLimiter) trim(r *http.Request) {
	kept := make(http.Header, len(l.Keep))
	for _, name := range l.Keep {
		if values := r.Header.Values(name); len(values) > 0 {
			kept[http.CanonicalHeaderKey(name)] = values
		}
	}
	clear(r.Header) // other layers can have the map
	r.Header = kept
}

// headerSize returns the size of a request's header on the wire of HTTP/1.1, and the number of
// fields.
func headerSize(r *http.Request) (bytes int64, fields int) {
	const spaces, colon, end = 2, 2, 2 // "GET / HTTP/1.1", "Host: ", "\r\n"
	n := len(r.Method) + len(r.RequestURI) + len(r.Proto) + spaces + end
	n += len("Host") + colon + len(r.Host) + end
	for name, values := range r.Header {
		fields += len(values)
		for _, v := range values {
			n += len(name) + colon + len(v) + end
		}
	}
	return int64(n + end), fields
}
