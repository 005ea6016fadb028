package ratelimit

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"inbox/ratelimit/internal/pacer"
)

// RequestLimiter is a middleware that limits how fast an address may make requests. It
// belongs around everything that costs something.
type RequestLimiter struct {
	// Limiter provides a token for each request.
	Limiter *Limiter
	// Addr returns the client's address, as [ClientIP.Addr] does.
	Addr func(*http.Request) netip.Addr
	// Client, when not nil, returns what the connection of a request remembers of its client; nil
	// if it can bring requests of several clients. Addr is not called then unless it is nil.
	Client func(*http.Request) *Client
	// Exempt, when not nil, reports which requests need no token.
	Exempt func(*http.Request) bool
	// Tarpit delays refusals, MaxTarpitted of them at once, but never beyond the time
	// after which the client may retry. It slows a client that sends its next request
	// when the last one was answered, and delays a client that respects Retry-After once.
	Tarpit       time.Duration
	MaxTarpitted int
	// HeavyPerSecond, when not zero, paces the requests of addresses that have used more
	// than an eighth of their burst, all together. A flood from many networks, each within
	// its budget, then leaves processors to the clients that request little. It delays
	// requests, and what Delay is called for, and refuses none.
	HeavyPerSecond float64
	// ModeratePerSecond, when not zero, paces those of addresses that have used more than a 32nd
	// of their burst, and no more than an eighth. A flood begins with connections from many
	// addresses whose first requests would all be served before those of others.
	ModeratePerSecond float64
	// DryRun counts refusals but refuses and delays nothing.
	DryRun bool

	refused, tarpitted, paced atomic.Int64
	startPacers               sync.Once
	heavy, moderate           *pacer.Pacer // of startPacers; nil without a pace
}

// heavyUse and moderateUse are the fractions of its burst as of which an address is paced. A page
// with a call requests less than the former at once. A client that sends no faster than its tokens
// are refilled stays below the latter.
const heavyUse, moderateUse = 1.0 / 8, 1.0 / 32

// Refused returns how many requests were refused, or would have been in a dry run.
func (l *RequestLimiter) Refused() int64 { return l.refused.Load() }

// Paced returns how often requests were delayed because many addresses requested much, and how
// often Delay delayed something.
func (l *RequestLimiter) Paced() int64 { return l.paced.Load() }

// Handler returns next behind the limit.
func (l *RequestLimiter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.Exempt == nil || !l.Exempt(r) {
			res := l.take(r, now())
			if !res.OK {
				l.refused.Add(1)
				if !l.DryRun {
					l.refuse(w, r, res)
					return
				}
			}
			if p := l.pacerFor(res.Used); p != nil && !l.pace(r, p) {
				w.WriteHeader(http.StatusServiceUnavailable) // the client has left
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// Delay takes a token for something of a client that costs as much as a request, such as a frame
// of a WebSocket. It returns how long to wait before it is done. With again there was no token, and
// Delay has to be called once more after the wait. r is the request that began the connection.
func (l *RequestLimiter) Delay(r *http.Request) (wait time.Duration, again bool) {
	return l.delay(l.take(r, now()))
}

// DelayClient is Delay for a client.
func (l *RequestLimiter) DelayClient(c *Client) (wait time.Duration, again bool) {
	return l.delay(l.Limiter.TakeFrom(c, now()))
}

// take takes a token of the client of a request.
func (l *RequestLimiter) take(r *http.Request, now time.Time) Result {
	if l.Client != nil {
		if c := l.Client(r); c != nil {
			return l.Limiter.TakeFrom(c, now)
		}
	}
	return l.Limiter.Take(l.Addr(r), now)
}

func (l *RequestLimiter) delay(res Result) (wait time.Duration, again bool) {
	if !res.OK {
		wait, again = max(res.Wait, time.Millisecond), true
	} else if p := l.pacerFor(res.Used); p != nil {
		wait = p.Reserve()
	}
	if wait > 0 {
		l.paced.Add(1)
	}
	if l.DryRun {
		return 0, false
	}
	return wait, again
}

// pacerFor returns what paces an address that has used a part of its burst, or nil.
func (l *RequestLimiter) pacerFor(used float64) *pacer.Pacer {
	if used <= moderateUse || l.DryRun {
		return nil
	}
	l.startPacers.Do(func() {
		if l.HeavyPerSecond > 0 {
			l.heavy = pacer.New(l.HeavyPerSecond)
		}
		if l.ModeratePerSecond > 0 {
			l.moderate = pacer.New(l.ModeratePerSecond)
		}
	})
	if used > heavyUse {
		return l.heavy
	}
	return l.moderate
}

// pace delays a request until its turn, and reports whether the client waited for it.
func (l *RequestLimiter) pace(r *http.Request, p *pacer.Pacer) bool {
	if p.Now() {
		return true
	}
	l.paced.Add(1)
	return p.Wait(r.Context())
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
