package host

import (
	"runtime"
	"testing"
)

func TestScavengerWaitsForIdle(t *testing.T) {
	const mib = 1 << 20
	var resident, allocated, used int64 = 20 * mib, 0, 20
	freed := 0
	scavenger := &Scavenger{baseline: resident, readStats: func() (int64, int64) { return resident, allocated }}
	scavenger.free = func() { freed++; resident = used * mib }
	for i, step := range []struct {
		what            string
		held, new, used int64
		want            int
	}{
		{"idle", 20, 0, 20, 0},
		{"a little more", 30, 0, 20, 0},
		{"a flood", 400, 1000, 200, 0},
		{"its end", 400, 10, 200, 1},
		{"what is left may be needed", 200, 1, 200, 2},
		{"it was", 200, 1, 200, 2},
		{"it is no more", 200, 1, 20, 3},
		{"idle again", 20, 1, 20, 3},
		{"another flood", 300, 500, 20, 3},
		{"which ended as fast", 300, 0, 20, 4},
	} {
		resident, used = step.held*mib, step.used
		allocated += step.new * mib
		scavenger.check()
		if freed != step.want {
			t.Errorf("step %d, %s: collected %d times, want %d", i, step.what, freed, step.want)
		}
	}
}

// TestScavengerBacksOffWhenMemoryIsUsed: who keeps much is not made to collect it
// every time.
func TestScavengerBacksOffWhenMemoryIsUsed(t *testing.T) {
	freed := 0
	scavenger := &Scavenger{readStats: func() (int64, int64) { return 1 << 30, 0 }, free: func() { freed++ }}
	for range 1 + 2 + 4 + 8 + 8 {
		scavenger.check()
	}
	if freed != 5 {
		t.Errorf("collected %d times, want 5, with ever longer pauses between", freed)
	}
}

func TestScavengerReleasesMemory(t *testing.T) {
	scavenger := NewScavenger()
	const size = 64 << 20
	flood := make([]byte, size)
	for i := range flood {
		flood[i] = 1 // else the system has not given it yet
	}
	during, _ := readMemory()
	runtime.KeepAlive(flood)
	flood = nil
	scavenger.check() // it has just allocated: not idle
	scavenger.check()
	if after, _ := readMemory(); after > during-size/2 {
		t.Errorf("%d MiB are held after a flood, want far less than the %d of it", after>>20, during>>20)
	}
}
