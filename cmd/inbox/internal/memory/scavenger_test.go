package memory

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestScavengerWaitsForIdle(t *testing.T) {
	const mib = 1 << 20
	var resident, allocated, used int64 = 20 * mib, 0, 20
	freed := 0
	scavenger := &Scavenger{baseline: resident, readStats: func() (int64, int64) { return resident, allocated }}
	scavenger.free = func() { freed++; resident = used * mib }
	for i, step := range []struct {
		name                string
		resident, new, used int64 // MiB
		want                int   // collections so far
	}{
		{"idle", 20, 0, 20, 0},
		{"slight growth", 30, 0, 20, 0},
		{"flood", 400, 1000, 200, 0},
		{"end of the flood", 400, 10, 200, 1},
		{"the rest is still large", 200, 1, 200, 2},
		{"and in use: backs off", 200, 1, 200, 2},
		{"no longer in use", 200, 1, 20, 3},
		{"idle again", 20, 1, 20, 3},
		{"second flood", 300, 500, 20, 3},
		{"end of the second flood", 300, 0, 20, 4},
	} {
		resident, used = step.resident*mib, step.used
		allocated += step.new * mib
		scavenger.check()
		if freed != step.want {
			t.Errorf("step %d, %s: got %d collections, want %d", i, step.name, freed, step.want)
		}
	}
}

// A process whose memory is in use does not collect at every check.
func TestScavengerBacksOffWhenMemoryIsUsed(t *testing.T) {
	freed := 0
	scavenger := &Scavenger{readStats: func() (int64, int64) { return 1 << 30, 0 }, free: func() { freed++ }}
	for range 1 + 2 + 4 + 8 + 8 {
		scavenger.check()
	}
	if freed != 5 {
		t.Errorf("got %d collections, want 5, at growing intervals", freed)
	}
}

func TestScavengerReleasesMemory(t *testing.T) {
	debug.FreeOSMemory() // what other tests left would be part of the baseline
	scavenger := NewScavenger(0)
	const size = 64 << 20
	flood := make([]byte, size)
	for i := range flood {
		flood[i] = 1 // makes the page resident
	}
	during, _ := readMemory()
	runtime.KeepAlive(flood)
	flood = nil
	scavenger.check() // not idle: it has just allocated
	scavenger.check()
	if after, _ := readMemory(); after > during-size/2 {
		t.Errorf("got %d MiB after the flood, want far less than the %d MiB during it", after>>20, during>>20)
	}
}
