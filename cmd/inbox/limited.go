package main

import (
	"maps"
	"slices"
	"time"

	"inbox/inbox"
	"inbox/ratelimit"
)

// reportEvery is how often a dry run says what it would have refused.
const reportEvery = time.Minute

// connStats sums those of all listeners.
func (h *house) connStats() (sum ratelimit.ConnStats) {
	for _, l := range h.limits.listeners {
		s := l.Stats()
		sum.Open, sum.Accepted = sum.Open+s.Open, sum.Accepted+s.Accepted
		sum.RefusedTotal, sum.RefusedAddr, sum.RefusedRate = sum.RefusedTotal+s.RefusedTotal, sum.RefusedAddr+s.RefusedAddr, sum.RefusedRate+s.RefusedRate
	}
	return sum
}

// limited is how often each limit was met since the start.
func (h *house) limited() map[string]int64 {
	l, conns := h.limits, h.connStats()
	return map[string]int64{
		"connections": conns.RefusedTotal, "connections-per-address": conns.RefusedAddr, "connection-rate": conns.RefusedRate,
		"requests": l.requests.Refused(), "held": l.held.Refused(), "active": l.active.Refused(), "frames": l.pieces.Throttled(),
		"header": h.tooLarge.Load(), "handshakes": l.turns.Waited(),
		"passwords": l.guard.refused[inbox.PasswordGuess].Load(),
		"names":     l.guard.refused[inbox.NewName].Load(),
		"misses":    l.guard.refused[inbox.UnknownRecipient].Load(),
	}
}

// dryRunReport tells the log now and then what a dry run would have refused.
type dryRunReport struct {
	last map[string]int64
	next time.Time
}

func (d *dryRunReport) tell(h *house, now time.Time) {
	if !h.cfg.rateDryRun || now.Before(d.next) {
		return
	}
	d.next = now.Add(reportEvery)
	counts := h.limited()
	var grown []any
	for _, limit := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[limit] - d.last[limit]; n > 0 {
			grown = append(grown, limit, n)
		}
	}
	d.last = counts
	if len(grown) > 0 {
		h.log.Info("limits met, nothing refused: a dry run", grown...)
	}
}
