package ratelimit

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// RequestLimiter is a middleware that limits how fast an address may make requests. It
// belongs around everything that costs something.
type RequestLimiter struct {
	// Limiter provides a token for each request.
	Limiter *Limiter
	// Addr returns the client's address, as [ClientIP.Addr] does.
	Addr func(*http.Request) netip.Addr
	// Exempt, when not nil, reports which requests need no token.
	Exempt func(*http.Request) bool
	// Tarpit delays refusals, MaxTarpitted of them at once, but never beyond the time
	// after which the client may retry. It slows a client that sends its next request
	// when the last one was answered, and delays a client that respects Retry-After once.
	Tarpit       time.Duration
	MaxTarpitted int
	// DryRun counts refusals but refuses nothing.
	DryRun bool

	refused, tarpitted atomic.Int64
}

// Refused returns how many requests were refused, or would have been in a dry run.
func (l *RequestLimiter) Refused() int64 { return l.refused.Load() }

// Handler returns next behind the limit.
func (l *RequestLimiter) Handler(next http.Handler) http.Handler {
	start := time.Now()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.Exempt == nil || !l.Exempt(r) {
			// Reading the monotonic clock alone takes half as long as reading both clocks.
			res := l.Limiter.Take(l.Addr(r), start.Add(time.Since(start)))
			if !res.OK {
				l.refused.Add(1)
				if !l.DryRun {
					l.refuse(w, r, res)
					return
				}
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (l *RequestLimiter) refuse(w http.ResponseWriter, r *http.Request, res Result) {
	l.tarpit(r, min(l.Tarpit, res.Wait))
	// The client's next connection passes the Listener, which counts it.
	w.Header().Set("Connection", "close")
	budget := l.Limiter.Budget()
	refusal := &Refusal{
		Limit: "requests", Quota: budget.Burst, Window: budget.window(), Wait: res.Wait,
		Detail: fmt.Sprintf("Your address may make %d requests at once and %g a second after that.",
			budget.Burst, budget.PerSecond),
	}
	refusal.respond(w, r)
}

// tarpit delays a refusal until delay has passed or the client leaves, unless too many are
// delayed already.
func (l *RequestLimiter) tarpit(r *http.Request, delay time.Duration) {
	if delay <= 0 {
		return
	}
	defer l.tarpitted.Add(-1)
	if l.tarpitted.Add(1) > int64(l.MaxTarpitted) {
		return
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}
