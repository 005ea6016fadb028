package main

import (
	"maps"
	"slices"
	"time"

	"inbox/ratelimit"
)

// dryRunReportInterval is how often a dry run says what it would have refused.
const dryRunReportInterval = time.Minute

// connStats sums those of all listeners.
func (s *server) connStats() (sum ratelimit.ConnStats) {
	for _, l := range s.limits.listeners {
		stats := l.Stats()
		sum.Open, sum.Accepted = sum.Open+stats.Open, sum.Accepted+stats.Accepted
		sum.RefusedTotal, sum.RefusedAddr, sum.RefusedRate = sum.RefusedTotal+stats.RefusedTotal, sum.RefusedAddr+stats.RefusedAddr, sum.RefusedRate+stats.RefusedRate
	}
	return sum
}

// limitCounts is how often each limit was met since the start.
func (s *server) limitCounts() map[string]int64 {
	l, conns := s.limits, s.connStats()
	return map[string]int64{
		"connections": conns.RefusedTotal, "connections-per-address": conns.RefusedAddr, "connection-rate": conns.RefusedRate,
		"requests": l.requests.Refused(), "polls": l.polls.Refused(), "streams": l.streams.Refused(), "frames": l.frames.Throttled(),
		"header": s.oversizedHeaders.Load(), "handshakes": l.handshakes.Waited(),
		"passwords": l.guard.attempts.Refused(ratelimit.WrongPassword),
		"names":     l.guard.attempts.Refused(ratelimit.NewName),
		"misses":    l.guard.attempts.Refused(ratelimit.UnknownRecipient),
	}
}

// dryRunReport tells the log now and then what a dry run would have refused.
type dryRunReport struct {
	last map[string]int64
	next time.Time
}

func (d *dryRunReport) logNew(s *server, now time.Time) {
	if !s.cfg.rateDryRun || now.Before(d.next) {
		return
	}
	d.next = now.Add(dryRunReportInterval)
	counts := s.limitCounts()
	var grown []any
	for _, limit := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[limit] - d.last[limit]; n > 0 {
			grown = append(grown, limit, n)
		}
	}
	d.last = counts
	if len(grown) > 0 {
		s.log.Info("limits met, nothing refused: a dry run", grown...)
	}
}
