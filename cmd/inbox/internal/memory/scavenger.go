package memory

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	scavengeInterval = 5 * time.Second
	// minScavengeGrowth, in bytes, is how far memory must have grown since the
	// start, in addition to a quarter, before a full collection pays off.
	minScavengeGrowth = 8 << 20
	// maxSkippedChecks bounds the checks skipped after collections that freed
	// little because most of the memory is in use.
	maxSkippedChecks = 7
)

// Scavenger returns memory to the system after a burst of requests. The runtime
// collects garbage as it allocates, otherwise every two minutes, and then retains
// memory for the next burst, so an idle server would stay as large as at its peak. It also adjusts
// the GC percentage to the memory in use.
type Scavenger struct {
	percent   *gcPercent // nil with $GOGC
	readStats func() (resident, allocated int64)
	free      func()
	allocated int64 // total at the last check
	baseline  int64 // resident at the start
	skip      int   // checks still to skip
	backoff   int   // checks skipped the last time
}

// NewScavenger takes the memory in use now as what the program needs when idle. The limit is that
// of [SetLimit].
func NewScavenger(limit int64) *Scavenger {
	s := &Scavenger{readStats: readMemory, free: debug.FreeOSMemory}
	if os.Getenv("GOGC") == "" {
		s.percent = newGCPercent(limit)
	}
	s.baseline, s.allocated = s.readStats()
	return s
}

// check frees memory if the process has grown and is now too idle to need it soon.
func (s *Scavenger) check() {
	resident, allocated := s.readStats()
	newlyAllocated := allocated - s.allocated
	s.allocated = allocated
	if newlyAllocated > resident/4 || resident < s.baseline+s.baseline/4+minScavengeGrowth {
		s.skip, s.backoff = 0, 0
		return
	}
	if s.skip--; s.skip >= 0 {
		return
	}
	s.free()
	after, _ := s.readStats()
	if s.backoff = min(2*s.backoff+1, maxSkippedChecks); after < resident-resident/8 {
		s.backoff = 0
	}
	s.skip = s.backoff
}

// Run checks every five seconds until ctx ends, and adjusts the percentage each
// growthInterval.
func (s *Scavenger) Run(ctx context.Context) {
	scavenge, adjust := time.NewTicker(scavengeInterval), time.NewTicker(growthInterval)
	defer scavenge.Stop()
	defer adjust.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-scavenge.C:
			s.check()
		case <-adjust.C:
			if s.percent != nil {
				s.percent.adjust()
			}
		}
	}
}

// readMemory returns the bytes obtained from the system and not returned, and
// the bytes allocated since the start.
func readMemory() (resident, allocated int64) {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/gc/heap/allocs:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	return value(0) - value(1), value(2)
}
