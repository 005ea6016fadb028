// Package limits sets the limits on clients that the server enforces, and counts refusals. The
// limiters are those of package ratelimit; the options give their main values, and the
// constants here the rest.
package limits

import (
	"net/http"
	"runtime"
	"time"

	"inbox/cmd/inbox/internal/conn"
	"inbox/ratelimit"
)

// Values that need no option, with the reasons.
const (
	guessBurst         = 10  // a person mistypes, and a page retries
	guessRate          = 0.1 // then one guess in 10 s: a four-letter word takes weeks
	newNameBurst       = 60  // new names, and misses: an office that starts its day
	newNameRate        = 1
	connBurst          = 5           // times -conn-rate: a page loads a dozen files, an office reconnects at once
	refusalDelay       = time.Second // of a request: a closed-loop flooder gets one answer in this time
	maxDelayedRefusals = 1024        // refusals delayed at once, a few KiB each
	connTarpit         = time.Second // of a refused connection
	MaxTarpittedConns  = 1024        // a file each
	streamsFactor      = 2           // times -max-conns-per-ip over HTTP/2: as many refusals as polls
	framesFactor       = 10          // times -rate and -burst: frames and small records; a request is about four
	maxKnownOwners     = 100_000     // pairs of address and name, about 50 bytes each
)

// lingering bounds the bodies that are read and dropped after a refusal: 8 MB at 5 Mbit/s
// take 13 seconds. 128 connections at their bounds are 140 MB/s.
var lingering = ratelimit.LingeringLimits{
	Timeout: 15 * time.Second, MaxBytes: 16 << 20, Max: 128, MaxPerAddr: 8, BytesPerSecond: 2 << 20, BurstBytes: 64 << 20,
}

// Config has the limits that options set. Zero is no limit.
type Config struct {
	// Rate and Burst bound the requests of an address, per second and at once. Without a
	// Rate, failed attempts are not limited either.
	Rate, Burst int
	// ConnRate bounds the connections that an address opens per second.
	ConnRate int
	// MaxConns and MaxConnsPerIP bound the open connections, HTTP/2 streams and polls.
	MaxConns, MaxConnsPerIP int
	// MaxHeaderBytes bounds the header of a request.
	MaxHeaderBytes int64
	// OwnerTTL is how long a client that sent the password of a name counts as its owner.
	OwnerTTL time.Duration
	// HandshakeTimeout bounds how long a TLS handshake waits for others of its address.
	HandshakeTimeout time.Duration
	// Exempt reports which requests the request rate does not limit.
	Exempt func(*http.Request) bool
	// CanWait reports which requests can wait for a message or for a recipient.
	CanWait func(*http.Request) bool
	// DryRun counts what the limits per address would refuse, but refuses nothing.
	DryRun bool
}

// Limits has the limiters, in the order in which a request passes them.
type Limits struct {
	Conns      ratelimit.ConnLimits
	Frames     *ratelimit.FrameLimiter
	Handshakes *ratelimit.HandshakeLimiter
	Lingering  *ratelimit.LingeringClose
	Streams    *ratelimit.StreamLimiter
	Requests   *ratelimit.RequestLimiter
	Header     *HeaderLimiter
	Polls      *ratelimit.PollLimiter
	Guard      *Guard

	dryRun    bool
	listeners []*ratelimit.Listener
}

// New returns the limiters. ClientIP identifies trusted proxies, and clients the client of a
// request.
func New(cfg Config, clientIP *ratelimit.ClientIP, clients *conn.ClientResolver) *Limits {
	budget := ratelimit.Budget{PerSecond: float64(cfg.Rate), Burst: cfg.Burst}
	frames := ratelimit.Budget{PerSecond: framesFactor * budget.PerSecond, Burst: framesFactor * budget.Burst}
	handshakesPerAddr := 0
	if cfg.MaxConnsPerIP > 0 {
		handshakesPerAddr = max(1, runtime.GOMAXPROCS(0)/2) // the rest is left to other addresses
	}
	return &Limits{
		Conns: ratelimit.ConnLimits{
			Max: cfg.MaxConns, MaxPerAddr: cfg.MaxConnsPerIP,
			Rate:   ratelimit.Budget{PerSecond: float64(cfg.ConnRate), Burst: connBurst * cfg.ConnRate},
			Tarpit: connTarpit, MaxTarpitted: MaxTarpittedConns, DryRun: cfg.DryRun,
		},
		Lingering: ratelimit.NewLingeringClose(lingering, clients.Addr),
		Frames:    &ratelimit.FrameLimiter{Limiter: ratelimit.NewLimiter(frames, 0), ClientIP: clientIP, DryRun: cfg.DryRun},
		Handshakes: &ratelimit.HandshakeLimiter{
			PerAddr: handshakesPerAddr, Timeout: cfg.HandshakeTimeout, ClientIP: clientIP, DryRun: cfg.DryRun,
		},
		Streams: &ratelimit.StreamLimiter{
			Max: cfg.MaxConns, MaxPerAddr: streamsFactor * cfg.MaxConnsPerIP, Addr: clients.Addr, DryRun: cfg.DryRun,
		},
		Requests: &ratelimit.RequestLimiter{
			Limiter: ratelimit.NewLimiter(budget, 0), Addr: clients.Addr, Exempt: cfg.Exempt,
			Tarpit: refusalDelay, MaxTarpitted: maxDelayedRefusals, DryRun: cfg.DryRun,
		},
		Header: &HeaderLimiter{MaxBytes: cfg.MaxHeaderBytes},
		Polls:  &ratelimit.PollLimiter{Max: cfg.MaxConnsPerIP, Addr: clients.Addr, IsPoll: cfg.CanWait, DryRun: cfg.DryRun},
		Guard:  newGuard(cfg, clients),
		dryRun: cfg.DryRun,
	}
}

// Register adds a listener to those that Sweep and the counts include. It must not be called
// after either.
func (l *Limits) Register(listener *ratelimit.Listener) { l.listeners = append(l.listeners, listener) }

// Sweep frees memory after a flood.
func (l *Limits) Sweep(now time.Time) {
	l.Lingering.Sweep(now)
	l.Requests.Limiter.Sweep(now)
	l.Frames.Limiter.Sweep(now)
	l.Guard.attempts.Sweep(now)
	for _, listener := range l.listeners {
		listener.Sweep(now)
	}
}
