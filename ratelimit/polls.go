package ratelimit

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// PollLimiter is a middleware that limits the long polls of an address: requests that the
// server can keep open. Connection limits do not bound them, because HTTP/2 carries many
// on one connection.
type PollLimiter struct {
	// Max bounds the open polls of an address. A /48 may have sixteen times as many;
	// zero is no limit.
	Max int
	// Addr returns the client's address, as [ClientIP.Addr] does.
	Addr func(*http.Request) netip.Addr
	// IsPoll reports which requests the server can keep open.
	IsPoll func(*http.Request) bool
	// DryRun counts refusals but refuses nothing.
	DryRun bool

	open    counter
	active  atomic.Int64
	refused atomic.Int64
}

// Active returns how many polls are open.
func (p *PollLimiter) Active() int64 { return p.active.Load() }

// Refused returns how many polls were refused, or would have been in a dry run.
func (p *PollLimiter) Refused() int64 { return p.refused.Load() }

// Handler returns next behind the limit.
func (p *PollLimiter) Handler(next http.Handler) http.Handler {
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
		Limit: "polls", Quota: p.Max, Wait: time.Second,
		Detail: fmt.Sprintf("Your address may wait for %d messages at once.", p.Max),
	}).Refuse(w)
	return true
}
