// Package limits sets the limits on clients that the server enforces, and counts refusals. The
// limiters are those of package ratelimit; the options give their main values, and the
// constants here the rest.
package limits

import (
	"fmt"
	"runtime"
	"time"

	"inbox/cmd/inbox/internal/conn"
	"inbox/ratelimit"
)

// Limits has the limiters, in the order in which a request passes them, and those of the relay.
type Limits struct {
	Conns      *ratelimit.ConnLimiter
	Frames     *ratelimit.FrameLimiter
	Unfinished *ratelimit.UnfinishedLimiter
	Handshakes *ratelimit.HandshakeLimiter
	Writes     *conn.WriteLimit
	Lingering  *ratelimit.LingeringClose
	Streams    *ratelimit.StreamLimiter
	Requests   *ratelimit.RequestLimiter
	Header     *HeaderLimiter
	Polls      *ratelimit.ConcurrencyLimiter
	Files      *ratelimit.ConcurrencyLimiter // one file for each response
	Guard      *Guard
	IDs        *IDGuard // of -compat
	TURN       *TURN

	FrameDelays FrameDelays // of Requests

	dryRun bool
}

// New returns the limiters. ClientIP identifies trusted proxies, and clients the client of a
// request.
func New(cfg Config, clientIP *ratelimit.ClientIP, clients *conn.ClientResolver) *Limits {
	budget := ratelimit.Budget{PerSecond: float64(cfg.Rate), Burst: cfg.Burst}
	frames := ratelimit.Budget{PerSecond: framesFactor * budget.PerSecond, Burst: framesFactor * budget.Burst}
	processors, guard := runtime.GOMAXPROCS(0), newGuard(cfg, clients)
	return &Limits{
		Conns: ratelimit.NewConnLimiter(ratelimit.ConnLimits{
			Max: cfg.MaxConns, MaxPerAddr: cfg.MaxConnsPerIP,
			MaxBytes: cfg.MaxConnBytes, BytesEach: cfg.HTTPConnBytes, HijackedBytes: cfg.WebSocketBytes,
			Rate:   ratelimit.Budget{PerSecond: float64(cfg.ConnRate), Burst: connBurst * cfg.ConnRate},
			Tarpit: connTarpit, MaxTarpitted: cfg.MaxTarpitted, DryRun: cfg.DryRun,
		}, clientIP),
		Lingering: ratelimit.NewLingeringClose(lingering, clients.Addr),
		Frames:    &ratelimit.FrameLimiter{Limiter: ratelimit.NewLimiter(frames, 0), ClientIP: clientIP, DryRun: cfg.DryRun},
		Unfinished: &ratelimit.UnfinishedLimiter{
			Share: ratelimit.NewShare(unfinishedLimits(cfg)), ClientIP: clientIP,
			MaxHeaderBytes: max(cfg.MaxHeaderBytes, 1+conn.HTTP1HeaderSlack),
		},
		Handshakes: &ratelimit.HandshakeLimiter{
			PerAddr: handshakesPerAddr(cfg, processors), Total: max(1, processors*3/4), Rest: processors == 1,
			Timeout: cfg.HandshakeTimeout, ClientIP: clientIP, DryRun: cfg.DryRun,
		},
		Writes: &conn.WriteLimit{Timeout: cfg.WriteTimeout},
		Streams: ratelimit.NewStreamLimiter(ratelimit.StreamLimits{
			Max: cfg.MaxStreams, MaxPerAddr: streamsFactor * cfg.MaxConnsPerIP, Timeout: cfg.WriteTimeout, DryRun: cfg.DryRun,
		}, clients.Addr),
		Requests: &ratelimit.RequestLimiter{
			Limiter: ratelimit.NewLimiter(budget, 0), Addr: clients.Addr, Client: clients.Client, Exempt: cfg.Exempt,
			Tarpit: refusalDelay, MaxTarpitted: maxDelayedRefusals,
			HeavyPerSecond: float64(heavyRate * processors), ModeratePerSecond: float64(moderateRate * processors),
			DryRun: cfg.DryRun,
		},
		Header: &HeaderLimiter{
			MaxBytes: cfg.MaxHeaderBytes, MaxFields: maxHeaderFields,
			Keep: []string{"Origin", "Accept", "Sec-Fetch-Mode", "X-Forwarded-For", "Forwarded", clientIP.Header},
		},
		Polls: &ratelimit.ConcurrencyLimiter{
			Limit: "polls", Detail: fmt.Sprintf("Your address may wait for %d messages at once.", cfg.MaxConnsPerIP),
			Share: ratelimit.NewShare(ratelimit.ShareLimits{MaxPerClient: int64(cfg.MaxConnsPerIP), DryRun: cfg.DryRun}),
			Addr:  clients.Addr,
		},
		Files: &ratelimit.ConcurrencyLimiter{
			Limit: "files", Detail: "Too many files are being sent. Receive those that you have requested first.",
			Share: ratelimit.NewShare(ratelimit.ShareLimits{Ceiling: int64(cfg.PageFiles), DryRun: cfg.DryRun}), Addr: clients.Addr,
		},
		Guard:  guard,
		IDs:    newIDGuard(cfg, guard),
		TURN:   newTURN(cfg),
		dryRun: cfg.DryRun,
	}
}

// handshakesPerAddr leaves half of the processors to other addresses.
func handshakesPerAddr(cfg Config, processors int) int {
	if cfg.MaxConnsPerIP <= 0 {
		return 0
	}
	return max(1, processors/2)
}

func unfinishedLimits(cfg Config) ratelimit.ShareLimits {
	ceiling := int64(unfinishedDefault)
	if cfg.MaxMemoryBytes > 0 {
		ceiling = max(minUnfinishedBytes, cfg.MaxMemoryBytes/unfinishedPart)
	}
	return ratelimit.ShareLimits{Ceiling: ceiling, MinPerClient: minUnfinishedBytes, DryRun: cfg.DryRun}
}

// Sweep frees memory after a flood.
func (l *Limits) Sweep(now time.Time) {
	l.Lingering.Sweep(now)
	l.Requests.Limiter.Sweep(now)
	l.Frames.Limiter.Sweep(now)
	l.Guard.attempts.Sweep(now)
	l.IDs.sweep(now)
	l.Conns.Sweep(now)
	l.TURN.networks.Sweep(now)
}
