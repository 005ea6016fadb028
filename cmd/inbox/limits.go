package main

import (
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"inbox/inbox"
	"inbox/ratelimit"
)

// What nobody needs to change, with the reasons.
const (
	guessBurst         = 10  // a person mistypes, and a page retries
	guessRate          = 0.1 // then one guess in 10 s: a four-letter word takes weeks
	noveltyBurst       = 60  // new names, and misses: an office that starts its day
	noveltyRate        = 1
	connBurst          = 5           // times -conn-rate: a page loads a dozen files, an office reconnects at once
	refusalDelay       = time.Second // of a request: a closed-loop flooder gets one answer in this time
	maxDelayedRefusals = 1024        // refusals held at once, a few KiB each
	connTarpit         = time.Second // of a refused connection
	maxTarpittedConns  = 1024        // a file each
	streamsFactor      = 2           // times -max-conns-per-ip over HTTP/2: as many refusals as polls
	framesFactor       = 10          // times -rate and -burst: frames and small records; a request is about four
	maxKnownOwners     = 100_000     // pairs of address and name, about 50 bytes each
)

// limits are the layers that look at addresses.
type limits struct {
	streams    *ratelimit.StreamLimiter
	requests   *ratelimit.RequestLimiter
	polls      *ratelimit.PollLimiter
	frames     *ratelimit.FrameLimiter
	handshakes *ratelimit.HandshakeLimiter
	guard      *guard
	conns      ratelimit.ConnLimits
	clientIP   *ratelimit.ClientIP
	listeners  []*ratelimit.Listener
}

func newLimits(c *config, clients *clientResolver) *limits {
	budget := ratelimit.Budget{PerSecond: float64(c.rate), Burst: int(c.burst)}
	return &limits{
		streams: &ratelimit.StreamLimiter{
			Max: int(c.maxConns), MaxPerAddr: streamsFactor * int(c.maxConnsPerIP), Addr: clients.addr, DryRun: c.rateDryRun,
		},
		requests: &ratelimit.RequestLimiter{
			Limiter: ratelimit.NewLimiter(budget, 0), Addr: clients.addr, Exempt: exemptHealthChecks(clients),
			Tarpit: refusalDelay, MaxTarpitted: maxDelayedRefusals, DryRun: c.rateDryRun,
		},
		polls: &ratelimit.PollLimiter{
			Max: int(c.maxConnsPerIP), Addr: clients.addr, IsPoll: canWait, DryRun: c.rateDryRun,
		},
		frames: &ratelimit.FrameLimiter{
			Limiter: ratelimit.NewLimiter(ratelimit.Budget{
				PerSecond: framesFactor * budget.PerSecond, Burst: framesFactor * budget.Burst,
			}, 0),
			ClientIP: clients.clientIP, DryRun: c.rateDryRun,
		},
		handshakes: newHandshakeLimiter(c, clients),
		guard:      newGuard(c, clients),
		clientIP:   clients.clientIP,
		conns: ratelimit.ConnLimits{
			Max: int(c.maxConns), MaxPerAddr: int(c.maxConnsPerIP),
			Rate:   ratelimit.Budget{PerSecond: float64(c.connRate), Burst: connBurst * int(c.connRate)},
			Tarpit: connTarpit, MaxTarpitted: maxTarpittedConns, DryRun: c.rateDryRun,
		},
	}
}

// newHandshakeLimiter leaves an address half of the processors for its handshakes.
func newHandshakeLimiter(c *config, clients *clientResolver) *ratelimit.HandshakeLimiter {
	t := &ratelimit.HandshakeLimiter{ClientIP: clients.clientIP, DryRun: c.rateDryRun}
	if c.maxConnsPerIP > 0 {
		t.PerAddr = max(1, runtime.GOMAXPROCS(0)/2)
	}
	return t
}

// sweep gives memory back after a flood.
func (l *limits) sweep(now time.Time) {
	l.requests.Limiter.Sweep(now)
	l.frames.Limiter.Sweep(now)
	l.guard.logins.Sweep(now)
	l.guard.names.Sweep(now)
	l.guard.misses.Sweep(now)
	for _, listener := range l.listeners {
		listener.Sweep(now)
	}
}

// exemptHealthChecks lets health checks of this machine through: a monitor must see
// the server while somebody floods it from the same address.
func exemptHealthChecks(clients *clientResolver) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return isHealthCheck(r) && clients.addr(r).IsLoopback()
	}
}

// canWait is true for what can wait for a message, or for a recipient.
func canWait(r *http.Request) bool {
	if r.URL.Path != "/inbox" {
		return false
	}
	return r.Method == http.MethodGet || r.Method == http.MethodPost && strings.Contains(r.URL.RawQuery, "wait=")
}

// guard limits guesses, for inbox.Config.
type guard struct {
	addr          func(*http.Request) netip.Addr
	logins        *ratelimit.LoginThrottle
	names, misses *ratelimit.Limiter
	refused       [inbox.UnknownRecipient + 1]atomic.Int64 // by the attempt
	ownerTTL      time.Duration                            // how long an owner is remembered
	dryRun        bool
	began         time.Time
}

// now reads the monotonic clock alone, which takes half as long as both do.
func (g *guard) now() time.Time { return g.began.Add(time.Since(g.began)) }

// newGuard limits nothing when -rate is off.
func newGuard(c *config, clients *clientResolver) *guard {
	guesses := ratelimit.Budget{PerSecond: guessRate, Burst: guessBurst}
	novelties := ratelimit.Budget{PerSecond: noveltyRate, Burst: noveltyBurst}
	if c.rate == 0 {
		guesses, novelties = ratelimit.Budget{}, ratelimit.Budget{}
	}
	return &guard{
		addr:     clients.addr,
		logins:   ratelimit.NewLoginThrottle(guesses, seconds(c.inboxTimeout), maxKnownOwners),
		names:    ratelimit.NewLimiter(novelties, 0),
		misses:   ratelimit.NewLimiter(novelties, 0),
		ownerTTL: seconds(c.inboxTimeout),
		dryRun:   c.rateDryRun,
		began:    time.Now(),
	}
}

// shouldRecordOwner is false for an owner who was remembered on this connection within
// that time: one that polls needs to be remembered now and then, not each time.
func shouldRecordOwner(r *http.Request, addr netip.Addr, name string, now time.Time, within time.Duration) bool {
	p, ok := r.Context().Value(connInfoKey{}).(*connInfo)
	if !ok {
		return true
	}
	last := p.lastOwner.Load()
	if last != nil && last.name == name && last.addr == addr && now.Sub(last.at) < within {
		return false
	}
	p.lastOwner.Store(&ownerSeen{name, addr, now})
	return true
}

// Allow implements [inbox.Guard].
func (g *guard) Allow(r *http.Request, a inbox.Attempt, name string) error {
	if g.unused(a) {
		return nil
	}
	res := g.check(g.addr(r), a, name)
	if res.OK {
		return nil
	}
	g.refused[a].Add(1)
	if g.dryRun {
		return nil
	}
	return refusalFor(a, res.Wait)
}

// unused is true while nobody has lately done what a limits: mostly, and then
// neither the clock nor the address matters.
func (g *guard) unused(a inbox.Attempt) bool {
	switch a {
	case inbox.PasswordGuess:
		return g.logins.Len() == 0
	case inbox.NewName:
		return g.names.Len() == 0
	default:
		return g.misses.Len() == 0
	}
}

func (g *guard) check(addr netip.Addr, a inbox.Attempt, name string) ratelimit.Result {
	switch a {
	case inbox.PasswordGuess:
		return g.logins.Allow(addr, name, g.now())
	case inbox.NewName:
		return g.names.Ready(addr, g.now())
	default:
		return g.misses.Ready(addr, g.now())
	}
}

func refusalFor(a inbox.Attempt, wait time.Duration) *ratelimit.Refusal {
	novelty := ratelimit.Refusal{Quota: noveltyBurst, Window: noveltyBurst / noveltyRate * time.Second, Wait: wait}
	switch a {
	case inbox.PasswordGuess:
		return &ratelimit.Refusal{
			Limit: "passwords", Quota: guessBurst, Window: guessBurst / guessRate * time.Second, Wait: wait,
			Detail: "There were too many wrong passwords from your address, or for this name.",
		}
	case inbox.NewName:
		novelty.Limit, novelty.Detail = "names", "Your address has claimed many names lately."
	default:
		novelty.Limit, novelty.Detail = "misses", "Your address has sent to many names that nobody has claimed."
	}
	return &novelty
}

// Record implements [inbox.Guard].
func (g *guard) Record(r *http.Request, a inbox.Attempt, name string) {
	now, addr := g.now(), g.addr(r)
	switch a {
	case inbox.PasswordGuess:
		g.logins.Failed(addr, name, now)
	case inbox.PasswordMatch:
		if shouldRecordOwner(r, addr, name, now, g.ownerTTL/8) {
			g.logins.Succeeded(addr, name, now)
		}
	case inbox.NewName:
		g.names.Charge(addr, now)
	case inbox.UnknownRecipient:
		g.misses.Charge(addr, now)
	}
}
