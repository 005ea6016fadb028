package ratelimit

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// RequestLimiter limits how many requests an address may make: a middleware around
// everything that costs.
type RequestLimiter struct {
	// Limiter is asked for a token for each request.
	Limiter *Limiter
	// Addr says who asks, as [Clients.Addr] does.
	Addr func(*http.Request) netip.Addr
	// Exempt, when not nil, says which requests cost nothing.
	Exempt func(*http.Request) bool
	// Tarpit holds refusals, at most MaxDelayed of them at once, and at most for
	// as long as the client would have to wait. Who sends the next request when
	// the last was answered is slowed by it; who waited as told meets it once.
	Tarpit       time.Duration
	MaxTarpitted int
	// DryRun counts what would be refused and refuses nothing.
	DryRun bool

	refused, tarpitted atomic.Int64
}

// Refused returns how many requests were, or would have been, refused.
func (l *RequestLimiter) Refused() int64 { return l.refused.Load() }

// Handler limits next.
func (l *RequestLimiter) Handler(next http.Handler) http.Handler {
	began := time.Now()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.Exempt == nil || !l.Exempt(r) {
			// By the monotonic clock alone, which takes half as long to read as both do.
			res := l.Limiter.Take(l.Addr(r), began.Add(time.Since(began)))
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
	// A flooder opens its next connection through the Listener, which counts.
	w.Header().Set("Connection", "close")
	budget := l.Limiter.Budget()
	refusal := &Refusal{
		Limit: "requests", Quota: budget.Burst, Window: budget.window(), Wait: res.Wait,
		Detail: fmt.Sprintf("Your address may make %d requests at once and %g a second after that.", budget.Burst, budget.PerSecond),
	}
	if isNavigation(r) {
		refusal.writePage(w)
		return
	}
	refusal.Refuse(w)
}

// tarpit keeps a refusal back, unless the client leaves or too many are held.
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

// window is how long an empty bucket takes to be full.
func (b Budget) window() time.Duration {
	if b.PerSecond <= 0 {
		return 0
	}
	return time.Duration(float64(b.Burst) / b.PerSecond * float64(time.Second))
}
