package ratelimit

import (
	"net/http"
	"net/netip"
	"sync/atomic"
)

// StreamLimiter bounds the requests of HTTP/2 that are under way, from their header
// until the client has taken the last byte of the answer. Connections bound
// those of HTTP/1 well enough; of HTTP/2 one carries a hundred, each with a header
// and a goroutine, and a client that grants no window for answers keeps them
// all. It refuses by resetting the stream: any answer would be kept too.
type StreamLimiter struct {
	// Max and MaxPerAddr are how many may be under way, and sixteen times
	// the latter of a /48; zero is no limit.
	Max, MaxPerAddr int
	// Addr says who asks.
	Addr func(*http.Request) netip.Addr
	// DryRun counts what would be refused and refuses nothing.
	DryRun bool

	open    counter
	active  atomic.Int64
	refused atomic.Int64
}

// Active returns how many requests are under way; Refused how many were not let.
func (s *StreamLimiter) Active() int64  { return s.active.Load() }
func (s *StreamLimiter) Refused() int64 { return s.refused.Load() }

// Handler limits next. It is called once, and belongs around all that answers.
func (s *StreamLimiter) Handler(next http.Handler) http.Handler {
	s.open = newCounter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor < 2 {
			next.ServeHTTP(w, r)
			return
		}
		defer s.active.Add(-1)
		s.admit(exceeds(int(s.active.Add(1)), s.Max))
		if keys := keysOf(s.Addr(r)); keys[0] != (key{}) {
			defer s.open.leave(keys)
			s.admit(s.open.enter(keys, s.MaxPerAddr))
		}
		next.ServeHTTP(w, r)
		// net/http writes what is left after this function, where it is no
		// longer counted. An error means that the client is gone.
		_ = http.NewResponseController(w).Flush()
	})
}

// admit resets the stream of a request that is too many.
func (s *StreamLimiter) admit(tooMany bool) {
	if !tooMany {
		return
	}
	s.refused.Add(1)
	if !s.DryRun {
		panic(http.ErrAbortHandler)
	}
}
