package memory

import (
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
)

func TestGCPercent(t *testing.T) {
	const mib = 1 << 20
	for _, row := range []struct {
		live, limit int64
		want        int
	}{
		{20 * mib, 0, 400},
		{20 * mib, 512 * mib, 400},
		{32 * mib, 512 * mib, 400},
		{64 * mib, 512 * mib, 200},
		{200 * mib, 512 * mib, 64},
		{400 * mib, 512 * mib, 50},
		{200 * mib, 18 << 30, 400},
		{0, 512 * mib, 400},
	} {
		if got := gcPercentFor(row.live, row.limit); got != row.want {
			t.Errorf("%d MiB of %d: got %d, want %d", row.live/mib, row.limit/mib, got, row.want)
		}
	}
}

func TestGCPercentFollowsTheHeap(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(maxGCPercent))
	percent := func() int {
		now := debug.SetGCPercent(maxGCPercent)
		debug.SetGCPercent(now)
		return now
	}
	used := make([]byte, 64<<20)
	runtime.GC()
	g := newGCPercent(128 << 20)
	if g.adjust(); percent() != 50 {
		t.Errorf("half of the limit is live: got %d, want 50", percent())
	}
	runtime.KeepAlive(used)
	used = nil
	runtime.GC()
	if g.adjust(); percent() != 400 {
		t.Errorf("it is released: got %d, want 400", percent())
	}
	ended := make(chan struct{})
	var many sync.WaitGroup
	for range 2 * minGrowth {
		many.Go(func() { <-ended })
	}
	if g.adjust(); percent() < 100 {
		t.Errorf("the first connections are being made: got %d, want 100 at least", percent())
	}
	used = make([]byte, 24<<20)
	runtime.GC()
	if g.adjust(); percent() != 50 {
		t.Errorf("connections are being made: got %d, want 50", percent())
	}
	runtime.KeepAlive(used)
	close(ended)
	many.Wait()
}

func TestGCPercentOfEnvironment(t *testing.T) {
	t.Setenv("GOGC", "70")
	if s := NewScavenger(1 << 20); s.percent != nil {
		t.Error("with $GOGC, the percentage is adjusted")
	}
}

func TestGrowth(t *testing.T) {
	g := &gcPercent{}
	for i := range g.counts {
		g.counts[i] = 1000
	}
	for i, step := range []struct {
		count int64
		times int
		want  bool
	}{
		{1100, 1, false}, // requests
		{1000, 1, false},
		{1200, 1, true},
		{1300, growthSamples - 1, true},
		{1300, 1, false}, // 1200 a growthSamples before
		{900, 1, false},
		{1100, 1, false},
	} {
		for range step.times {
			if got := g.grows(step.count); got != step.want {
				t.Errorf("step %d, %d connections: got %v", i, step.count, got)
			}
		}
	}
}
