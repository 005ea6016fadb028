package main

import (
	"net/http"
	"net/netip"
	"runtime"
	"strings"
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
	l.guard.attempts.Sweep(now)
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

// guard adapts the attempt limiter to inbox.Config.
type guard struct {
	attempts *ratelimit.AttemptLimiter
	addr     func(*http.Request) netip.Addr
	ownerTTL time.Duration // how long an owner is remembered
}

// newGuard limits nothing when -rate is off.
func newGuard(c *config, clients *clientResolver) *guard {
	limits := ratelimit.AttemptLimits{OwnerTTL: seconds(c.inboxTimeout), MaxOwners: maxKnownOwners, DryRun: c.rateDryRun}
	if c.rate > 0 {
		limits.WrongPasswords = ratelimit.Budget{PerSecond: guessRate, Burst: guessBurst}
		limits.NewNames = ratelimit.Budget{PerSecond: noveltyRate, Burst: noveltyBurst}
		limits.UnknownRecipients = limits.NewNames
	}
	return &guard{ratelimit.NewAttemptLimiter(limits, clients.addr), clients.addr, limits.OwnerTTL}
}

// attemptOf maps the attempts of the mailbox to those of the limiter.
var attemptOf = [...]ratelimit.Attempt{
	inbox.PasswordGuess:    ratelimit.WrongPassword,
	inbox.NewName:          ratelimit.NewName,
	inbox.UnknownRecipient: ratelimit.UnknownRecipient,
}

// Allow implements [inbox.Guard].
func (g *guard) Allow(r *http.Request, a inbox.Attempt, name string) error {
	return g.attempts.Allow(r, attemptOf[a], name)
}

// Record implements [inbox.Guard].
func (g *guard) Record(r *http.Request, a inbox.Attempt, name string) {
	switch {
	case a != inbox.PasswordMatch:
		g.attempts.Failed(r, attemptOf[a], name)
	case shouldRecordOwner(r, g.addr(r), name, time.Now(), g.ownerTTL/8):
		g.attempts.Succeeded(r, name)
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
