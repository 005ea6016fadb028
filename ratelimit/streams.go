package ratelimit

import (
	"net/http"
	"net/netip"
	"sync/atomic"
)

// StreamLimiter is a middleware that bounds the active HTTP/2 streams: requests from their
// header until the client has received the last byte of the response. Connection limits
// bound the requests of HTTP/1.1 well enough. A connection of HTTP/2 carries a hundred
// streams, each with a header and a goroutine, and a client that grants no flow-control
// window for responses keeps all of them. Excess streams are reset, because a response
// would be kept too.
type StreamLimiter struct {
	// Max and MaxPerAddr bound the active streams, in total and per address. A /48 may
	// have sixteen times MaxPerAddr; zero is no limit.
	Max, MaxPerAddr int
	// Addr returns the client's address, as [ClientIP.Addr] does.
	Addr func(*http.Request) netip.Addr
	// DryRun counts refusals of MaxPerAddr but refuses nothing. Max applies nevertheless: it
	// protects the memory of the server.
	DryRun bool

	open    counter
	active  atomic.Int64
	refused atomic.Int64
}

// Active returns how many streams are active.
func (s *StreamLimiter) Active() int64 { return s.active.Load() }

// Refused returns how many streams were reset, or would have been in a dry run.
func (s *StreamLimiter) Refused() int64 { return s.refused.Load() }

// Handler returns next behind the limit. It belongs around every handler that writes a
// response. A refusal panics with [http.ErrAbortHandler].
func (s *StreamLimiter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor < 2 {
			next.ServeHTTP(w, r)
			return
		}
		defer s.active.Add(-1)
		s.admit(exceeds(int(s.active.Add(1)), s.Max), false)
		if keys := keysOf(s.Addr(r)); keys[0] != (key{}) {
			defer s.open.leave(keys)
			s.admit(s.open.enter(keys, s.MaxPerAddr), s.DryRun)
		}
		next.ServeHTTP(w, r)
		// net/http would write what is buffered after this function, when the stream is
		// no longer counted. An error means that the client is gone.
		_ = http.NewResponseController(w).Flush()
	})
}

// admit resets the stream if there are too many.
func (s *StreamLimiter) admit(tooMany, dryRun bool) {
	if !tooMany {
		return
	}
	s.refused.Add(1)
	if !dryRun {
		panic(http.ErrAbortHandler)
	}
}
