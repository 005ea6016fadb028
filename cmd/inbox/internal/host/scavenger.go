package host

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	scavengeInterval = 5 * time.Second
	// minScavengeGrowth is what memory must have grown by since the start, beside a
	// quarter, to be worth a collection of all of it.
	minScavengeGrowth = 8 << 20
	// maxSkippedChecks is how many intervals are left out after collections that
	// were not worth it: much of the memory is in use then.
	maxSkippedChecks = 7
)

// Scavenger gives memory back to the system once a flood is over. Go collects
// garbage as it allocates, else every two minutes, and keeps for itself what a
// busy server would need: one that was attacked and is idle now would look as
// large as at the worst moment.
type Scavenger struct {
	readStats func() (held, allocated int64)
	free      func()
	allocated int64 // in all, when it was last looked at
	baseline  int64 // held then
	skip      int   // looks to be left out
	backoff   int   // looks that were left out last time
}

// NewScavenger takes what is held now for what the program needs.
func NewScavenger() *Scavenger {
	s := &Scavenger{readStats: readMemory, free: debug.FreeOSMemory}
	s.baseline, s.allocated = s.readStats()
	return s
}

// check gives memory back if there is more than there was, and the server is
// too idle to need it soon.
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

// Run looks every five seconds until ctx ends.
func (s *Scavenger) Run(ctx context.Context) {
	ticker := time.NewTicker(scavengeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.check()
		}
	}
}

// readMemory returns what the process has of the system, and how much it has
// allocated since its start.
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
