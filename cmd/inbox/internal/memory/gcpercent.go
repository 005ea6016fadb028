package memory

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"inbox/internal/netconn"
)

const (
	// maxGCPercent lets garbage grow to four times the live memory between collections, which
	// saves a tenth of the cost of a message.
	maxGCPercent = 400
	// minGCPercent bounds the cost of collections, which grows as the percentage falls.
	minGCPercent = 50
	// garbagePart of the limit is for garbage.
	garbagePart = 4

	// growthInterval is how often growthSamples are taken. Connections are being made while their
	// number exceeds the oldest sample by a growthPart and minGrowth. What stays in memory then lies
	// between the garbage of the opening handshakes, which makes several times as much, and pages
	// with gaps cannot be returned to the system: more collections leave fewer gaps. There are
	// growthGarbage bytes between them, so that the first few hundred connections of a flood do not
	// make the server collect several times a second, which would delay other clients.
	growthInterval = time.Second / 5
	growthSamples  = 50
	growthPart     = 16
	minGrowth      = 64
	growthGarbage  = 8 << 20
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

// gcPercent adjusts the GC percentage to the live memory, and to whether it grows.
type gcPercent struct {
	limit   int64 // 0: none
	current int
	counts  [growthSamples]int64 // the last counts, in a ring
	next    int                  // the oldest of them
}

// newGCPercent returns what adjusts the percentage that [SetLimit] has set for a limit.
func newGCPercent(limit int64) *gcPercent {
	g := &gcPercent{limit: limit, current: maxGCPercent}
	for i := range g.counts {
		g.counts[i] = waiting()
	}
	return g
}

// adjust must be called each growthInterval. It sets the percentage if it differs by an eighth or is
// at an end of its range: setting it stops the program for a moment.
func (g *gcPercent) adjust() {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	live := int64(samples[0].Value.Uint64() + samples[1].Value.Uint64())
	percent := gcPercentFor(live, g.limit)
	if g.grows(waiting()) && live > 0 {
		percent = min(percent, max(minGCPercent, int(growthGarbage*100/live)))
	}
	isEnd := percent == minGCPercent || percent == maxGCPercent
	if difference := max(percent-g.current, g.current-percent); difference > g.current/8 || isEnd && difference > 0 {
		debug.SetGCPercent(percent)
		g.current = percent
	}
}

// waiting returns what stands for the number of connections: goroutines, and connections without.
func waiting() int64 { return int64(runtime.NumGoroutine() + netconn.Awaiting()) }

// grows adds a count of what waits, which stands for that of connections, and reports whether it
// exceeds the oldest one considerably.
func (g *gcPercent) grows(now int64) bool {
	before := g.counts[g.next]
	g.counts[g.next] = now
	g.next = (g.next + 1) % len(g.counts)
	return now > before+before/growthPart+minGrowth
}
