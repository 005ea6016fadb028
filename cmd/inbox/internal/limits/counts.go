package limits

import (
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"inbox/ratelimit"
)

// Refused returns how often each limit was reached, by the name of the limit.
func (l *Limits) Refused() map[string]int64 {
	conns := l.Conns.Stats()
	return map[string]int64{
		"connections":             conns.RefusedTotal,
		"connections-per-address": conns.RefusedAddr,
		"connection-rate":         conns.RefusedRate,
		"frames":                  l.Frames.Throttled(),
		"unfinished-handshakes":   l.Unfinished.Handshakes(),
		"unfinished-headers":      l.Unfinished.Headers(),
		"handshakes":              l.Handshakes.Waited(),
		"lingering":               l.Lingering.Cut(),
		"streams":                 l.Streams.Refused(),
		"stalled-connections":     l.Writes.Stalled(),
		"stalled-streams":         l.Streams.Stalled(),
		"requests":                l.Requests.Refused(),
		"paced-requests":          l.Requests.Paced(),
		"header":                  l.Header.Refused() + l.Unfinished.LargeHeaders(),
		"polls":                   l.Polls.Share.Refused(),
		"files":                   l.Files.Share.Refused(),
		"passwords":               l.Guard.attempts.Refused(ratelimit.WrongPassword),
		"names":                   l.Guard.attempts.Refused(ratelimit.NewName),
		"ids":                     l.IDs.refused.Load(),
		"misses":                  l.Guard.attempts.Refused(ratelimit.UnknownRecipient),
		"new-codes":               l.Guard.attempts.Refused(ratelimit.NewCode),
		"codes":                   l.Guard.attempts.Refused(ratelimit.UnknownCode),
	}
}

// FrameDelays counts the frames of WebSockets that waited for a token or for their turn. The zero
// value is ready to use.
type FrameDelays struct{ frames, nanoseconds atomic.Int64 }

// Add counts a frame that waited for d.
func (f *FrameDelays) Add(d time.Duration) {
	f.frames.Add(1)
	f.nanoseconds.Add(int64(d))
}

// Total returns how many frames waited, and how long in all.
func (f *FrameDelays) Total() (frames int64, waited time.Duration) {
	return f.frames.Load(), time.Duration(f.nanoseconds.Load())
}

// dryRunReportInterval is how often a dry run logs which limits were reached.
const dryRunReportInterval = time.Minute

// DryRunReport logs which limits were reached in a dry run, including those that apply
// nevertheless. The zero value is ready to use.
type DryRunReport struct {
	last map[string]int64
	next time.Time
}

// Log logs the counts that have grown since the last report, at most once a minute, and nothing
// without a dry run.
func (d *DryRunReport) Log(l *Limits, log *slog.Logger, now time.Time) {
	if !l.dryRun || now.Before(d.next) {
		return
	}
	d.next = now.Add(dryRunReportInterval)
	counts := l.Refused()
	var grown []any
	for _, limit := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[limit] - d.last[limit]; n > 0 {
			grown = append(grown, limit, n)
		}
	}
	d.last = counts
	if len(grown) > 0 {
		log.Info("limits reached in a dry run", grown...)
	}
}
