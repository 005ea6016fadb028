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

// Requests limits how many requests an address may make: a middleware around
// everything that costs.
type Requests struct {
	// Limiter is asked for a token for each request.
	Limiter *Limiter
	// Addr says who asks, as [Clients.Addr] does.
	Addr func(*http.Request) netip.Addr
	// Free, when not nil, says which requests cost nothing.
	Free func(*http.Request) bool
	// Delay holds refusals, at most MaxDelayed of them at once, and at most for
	// as long as the client would have to wait. Who sends the next request when
	// the last was answered is slowed by it; who waited as told meets it once.
	Delay      time.Duration
	MaxDelayed int
	// DryRun counts what would be refused and refuses nothing.
	DryRun bool

	refused, delayed atomic.Int64
}

// Refused returns how many requests were, or would have been, refused.
func (l *Requests) Refused() int64 { return l.refused.Load() }

// Handler limits next.
func (l *Requests) Handler(next http.Handler) http.Handler {
	began := time.Now()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.Free == nil || !l.Free(r) {
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

func (l *Requests) refuse(w http.ResponseWriter, r *http.Request, res Result) {
	l.hold(r, min(l.Delay, res.Wait))
	// A flooder opens its next connection through the Listener, which counts.
	w.Header().Set("Connection", "close")
	budget := l.Limiter.Budget()
	refusal := &Refusal{
		Limit: "requests", Quota: budget.Burst, Window: budget.window(), Wait: res.Wait,
		Detail: fmt.Sprintf("Your address may make %d requests at once and %g a second after that.", budget.Burst, budget.PerSecond),
	}
	if navigates(r) {
		refusal.refusePage(w)
		return
	}
	refusal.Refuse(w)
}

// hold keeps a refusal back, unless the client leaves or too many are held.
func (l *Requests) hold(r *http.Request, delay time.Duration) {
	if delay <= 0 {
		return
	}
	defer l.delayed.Add(-1)
	if l.delayed.Add(1) > int64(l.MaxDelayed) {
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

// Held limits how many requests of an address may be held open at once.
// Connections do not bound them: HTTP/2 carries many on one.
type Held struct {
	// Max is how many, and sixteen times as many of a /48; zero is no limit.
	Max int
	// Addr says who asks.
	Addr func(*http.Request) netip.Addr
	// Holds says which requests may be held.
	Holds func(*http.Request) bool
	// DryRun counts what would be refused and refuses nothing.
	DryRun bool

	open    counter
	now     atomic.Int64
	refused atomic.Int64
}

// Now returns how many requests are held; Refused how many were not let.
func (h *Held) Now() int64     { return h.now.Load() }
func (h *Held) Refused() int64 { return h.refused.Load() }

// Handler limits next. It is called once.
func (h *Held) Handler(next http.Handler) http.Handler {
	h.open = newCounter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.Holds(r) {
			next.ServeHTTP(w, r)
			return
		}
		h.now.Add(1)
		defer h.now.Add(-1)
		if keys := keysOf(h.Addr(r)); keys[0] != (key{}) {
			defer h.open.leave(keys)
			if h.open.enter(keys, h.Max) && h.refuse(w) {
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (h *Held) refuse(w http.ResponseWriter) bool {
	h.refused.Add(1)
	if h.DryRun {
		return false
	}
	(&Refusal{
		Limit: "held", Quota: h.Max, Wait: time.Second,
		Detail: fmt.Sprintf("Your address may wait for %d messages at once.", h.Max),
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
