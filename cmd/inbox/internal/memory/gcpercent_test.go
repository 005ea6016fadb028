package memory

import (
	"runtime"
	"runtime/debug"
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
	t.Setenv("GOGC", "")
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
	t.Setenv("GOGC", "70")
	debug.SetGCPercent(70)
	if newGCPercent(1 << 20).adjust(); percent() != 70 {
		t.Errorf("with $GOGC: got %d, want 70", percent())
	}
}
