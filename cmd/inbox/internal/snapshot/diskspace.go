package snapshot

import (
	"context"
	"log/slog"
	"time"

	"inbox/inbox"
	"inbox/internal/diskfull"
)

// diskCheckInterval is the time between two checks of the free space.
const diskCheckInterval = time.Minute

// claimDiskBytes is what a mailbox without messages takes in a snapshot, with long names.
const claimDiskBytes = 512

// WatchDisk warns when the disk of the snapshot has less space than the mailboxes need that Save
// writes there. stats returns their statistics. WatchDisk returns when ctx is done.
func (f *File) WatchDisk(ctx context.Context, stats func() inbox.Stats) {
	w := diskWatch{
		log: f.log, free: func() (uint64, bool) { return diskfull.FreeBytes(f.dir) },
		need: func() uint64 { s := stats(); return uint64(s.QueuedBytes + s.Inboxes*claimDiskBytes) },
	}
	w.run(ctx, diskCheckInterval)
}

// diskWatch compares the free space with the needed one.
type diskWatch struct {
	log  *slog.Logger
	need func() uint64
	free func() (n uint64, ok bool)
	low  bool
}

// run checks at each interval until ctx is done. A check of a disk that hangs is left
// behind, and no other one starts before it ends.
func (w *diskWatch) run(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	done := make(chan struct{}, 1)
	for {
		go func() { w.check(); done <- struct{}{} }()
		select {
		case <-ctx.Done():
			return
		case <-done:
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// check logs when the space becomes low, and when it is sufficient again.
func (w *diskWatch) check() {
	free, ok := w.free()
	need := w.need()
	switch {
	case !ok:
	case free < need && !w.low:
		w.low = true
		w.log.Warn("the disk of the state directory has less space than the mailboxes need: a restart would lose "+
			"messages; free space on it", "freeBytes", free, "neededBytes", need)
	case free >= need+need/4 && w.low:
		w.low = false
		w.log.Info("the disk of the state directory has enough space again", "freeBytes", free, "neededBytes", need)
	}
}
