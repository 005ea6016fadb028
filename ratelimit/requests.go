package ratelimit

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
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

// Refusal is an error that a limit was met, and the answer that says so.
type Refusal struct {
	Limit  string        // which limit, as a token
	Quota  int           // how much it grants
	Window time.Duration // in how long; zero for what is counted at once
	Wait   time.Duration // when to come back
	Detail string        // a sentence for a person
}

func (r *Refusal) Error() string { return "limit of " + r.Limit + " met" }

// Refuse answers 429 with a problem document (RFC 9457), Retry-After (RFC
// 9110), and the RateLimit fields of draft-ietf-httpapi-ratelimit-headers-10.
func (r *Refusal) Refuse(w http.ResponseWriter) {
	h := w.Header()
	r.setFields(h)
	body, _ := json.Marshal(map[string]any{ // plain values: cannot fail
		"type": "urn:inbox:problem:rate-limited", "title": "Too many requests from your address",
		"status": http.StatusTooManyRequests, "detail": r.Detail, "limit": r.Limit,
	})
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusTooManyRequests)
	w.Write(body)
}

// setFields says when to come back, in whole seconds, which it returns.
func (r *Refusal) setFields(h http.Header) int {
	seconds := int(math.Ceil(max(r.Wait.Seconds(), 1)))
	h.Set("Retry-After", strconv.Itoa(seconds))
	h.Set("RateLimit", fmt.Sprintf("%q;r=0;t=%d", r.Limit, seconds))
	policy := fmt.Sprintf("%q;q=%d", r.Limit, r.Quota)
	if r.Window > 0 {
		policy += fmt.Sprintf(";w=%d", int(math.Ceil(r.Window.Seconds())))
	}
	h.Set("RateLimit-Policy", policy)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	return seconds
}
