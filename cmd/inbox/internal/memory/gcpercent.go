package memory

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// maxGCPercent lets garbage grow to four times the live memory between collections, which
	// saves a tenth of the cost of a message.
	maxGCPercent = 400
	// minGCPercent bounds the cost of collections, which grows as the percentage falls.
	minGCPercent = 50
	// garbagePart of the limit is for garbage.
	garbagePart = 4
)

// gcPercentFor returns the GC percentage with which garbage takes at most a garbagePart of the
// limit beside the live memory: heap and stacks, in bytes. Thousands of connections that wait then
// do not multiply by the percentage what each was measured to use. Without a limit, it is
// maxGCPercent. The limit itself applies in any case: near it the runtime collects more often.
func gcPercentFor(live, limit int64) int {
	if limit <= 0 || live <= 0 {
		return maxGCPercent
	}
	return int(max(minGCPercent, min(maxGCPercent, limit/garbagePart*100/live)))
}

// gcPercent adjusts the GC percentage to the live memory.
type gcPercent struct {
	limit   int64 // 0: none
	current int
}

// newGCPercent returns the percentage for a limit. $GOGC takes precedence.
func newGCPercent(limit int64) *gcPercent {
	if os.Getenv("GOGC") != "" {
		limit = 0
	}
	return &gcPercent{limit: limit, current: maxGCPercent}
}

// adjust sets the percentage if it differs by an eighth or is at an end of its range: setting it
// stops the program for a moment.
func (g *gcPercent) adjust() {
	if g.limit <= 0 {
		return
	}
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	percent := gcPercentFor(int64(samples[0].Value.Uint64()+samples[1].Value.Uint64()), g.limit)
	isEnd := percent == minGCPercent || percent == maxGCPercent
	if difference := max(percent-g.current, g.current-percent); difference > g.current/8 || isEnd && difference > 0 {
		debug.SetGCPercent(percent)
		g.current = percent
	}
}
