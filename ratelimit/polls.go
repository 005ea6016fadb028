package ratelimit

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// PollLimiter limits how many requests of an address may be held open at once.
// Connections do not bound them: HTTP/2 carries many on one.
type PollLimiter struct {
	// Max is how many, and sixteen times as many of a /48; zero is no limit.
	Max int
	// Addr says who asks.
	Addr func(*http.Request) netip.Addr
	// IsPoll says which requests may be held.
	IsPoll func(*http.Request) bool
	// DryRun counts what would be refused and refuses nothing.
	DryRun bool

	open    counter
	active  atomic.Int64
	refused atomic.Int64
}

// Active returns how many requests are held; Refused how many were not let.
func (p *PollLimiter) Active() int64  { return p.active.Load() }
func (p *PollLimiter) Refused() int64 { return p.refused.Load() }

// Handler limits next. It is called once.
func (p *PollLimiter) Handler(next http.Handler) http.Handler {
	p.open = newCounter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.IsPoll(r) {
			next.ServeHTTP(w, r)
			return
		}
		p.active.Add(1)
		defer p.active.Add(-1)
		if keys := keysOf(p.Addr(r)); keys[0] != (key{}) {
			defer p.open.leave(keys)
			if p.open.enter(keys, p.Max) && p.refuse(w) {
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (p *PollLimiter) refuse(w http.ResponseWriter) bool {
	p.refused.Add(1)
	if p.DryRun {
		return false
	}
	(&Refusal{
		Limit: "held", Quota: p.Max, Wait: time.Second,
		Detail: fmt.Sprintf("Your address may wait for %d messages at once.", p.Max),
	}).Refuse(w)
	return true
}
