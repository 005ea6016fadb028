package machine

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	tidyInterval = 5 * time.Second
	// tidyGrowth is what memory must have grown by since the start, beside a
	// quarter, to be worth a collection of all of it.
	tidyGrowth = 8 << 20
	// maxIdleLooks is how many intervals are left out after collections that
	// were not worth it: much of the memory is in use then.
	maxIdleLooks = 7
)

// Tidier gives memory back to the system once a flood is over. Go collects
// garbage as it allocates, else every two minutes, and keeps for itself what a
// busy server would need: one that was attacked and is idle now would look as
// large as at the worst moment.
type Tidier struct {
	read      func() (held, allocated int64)
	free      func()
	allocated int64 // in all, when it was last looked at
	atStart   int64 // held then
	skip      int   // looks to be left out
	pause     int   // looks that were left out last time
}

// NewTidier takes what is held now for what the program needs.
func NewTidier() *Tidier {
	t := &Tidier{read: readMemory, free: debug.FreeOSMemory}
	t.atStart, t.allocated = t.read()
	return t
}

// look gives memory back if there is more than there was, and the server is
// too idle to need it soon.
func (t *Tidier) look() {
	held, allocated := t.read()
	fresh := allocated - t.allocated
	t.allocated = allocated
	if fresh > held/4 || held < t.atStart+t.atStart/4+tidyGrowth {
		t.skip, t.pause = 0, 0
		return
	}
	if t.skip--; t.skip >= 0 {
		return
	}
	t.free()
	left, _ := t.read()
	if t.pause = min(2*t.pause+1, maxIdleLooks); left < held-held/8 {
		t.pause = 0
	}
	t.skip = t.pause
}

// Run looks every five seconds until ctx ends.
func (t *Tidier) Run(ctx context.Context) {
	ticker := time.NewTicker(tidyInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			t.look()
		}
	}
}

// readMemory returns what the process has of the system, and how much it has
// allocated since its start.
func readMemory() (held, allocated int64) {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/gc/heap/allocs:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	return value(0) - value(1), value(2)
}
