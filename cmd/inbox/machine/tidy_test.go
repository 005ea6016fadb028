package machine

import (
	"runtime"
	"testing"
)

func TestTidierWaitsForQuiet(t *testing.T) {
	const mib = 1 << 20
	var held, allocated, used int64 = 20 * mib, 0, 20
	freed := 0
	tidy := &Tidier{atStart: held, read: func() (int64, int64) { return held, allocated }}
	tidy.free = func() { freed++; held = used * mib }
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
		held, used = step.held*mib, step.used
		allocated += step.new * mib
		tidy.look()
		if freed != step.want {
			t.Errorf("step %d, %s: collected %d times, want %d", i, step.what, freed, step.want)
		}
	}
}

// TestTidierIsRareWhenMemoryIsUsed: who keeps much is not made to collect it
// every time.
func TestTidierIsRareWhenMemoryIsUsed(t *testing.T) {
	freed := 0
	tidy := &Tidier{read: func() (int64, int64) { return 1 << 30, 0 }, free: func() { freed++ }}
	for range 1 + 2 + 4 + 8 + 8 {
		tidy.look()
	}
	if freed != 5 {
		t.Errorf("collected %d times, want 5, with ever longer pauses between", freed)
	}
}

func TestTidierGivesMemoryBack(t *testing.T) {
	tidy := NewTidier()
	const size = 64 << 20
	flood := make([]byte, size)
	for i := range flood {
		flood[i] = 1 // else the system has not given it yet
	}
	during, _ := readMemory()
	runtime.KeepAlive(flood)
	flood = nil
	tidy.look() // it has just allocated: not idle
	tidy.look()
	if after, _ := readMemory(); after > during-size/2 {
		t.Errorf("%d MiB are held after a flood, want far less than the %d of it", after>>20, during>>20)
	}
}
