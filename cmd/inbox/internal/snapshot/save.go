package snapshot

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"time"

	"inbox/inbox/memstore"
	"inbox/internal/atomicfile"
	"inbox/internal/diskfull"
)

// syncBytes bounds the bytes that wait in memory for the disk: few enough that a
// disk that writes 1 MB a second shows progress in time, and many enough that a
// fast one is not slowed down.
const syncBytes = 32 << 20

// ErrStalled is returned by [File.Save] when it gives up.
var ErrStalled = errors.New("the disk of the state directory hangs or is far too slow; check dmesg and df")

// ErrPartlySaved is returned by [File.Save] when the disk was too full for all messages.
var ErrPartlySaved = errors.New("the disk of the state directory is full")

// Timeouts bound [File.Save].
type Timeouts struct {
	Stall time.Duration // without any progress
	Total time.Duration
}

// Save closes the mailboxes and writes them for the next start, atomically. It
// calls progress each time that something has reached the disk, at most ten times
// in t.Stall. A full disk gets what fits, and Save returns [ErrPartlySaved]. When a timeout passes Save returns [ErrStalled] and leaves the
// goroutine that writes behind: a system call that hangs cannot be cancelled.
func (f *File) Save(m *memstore.Store, t Timeouts, progress func()) error {
	done := make(chan error, 1)
	go func() { done <- f.save(m) }()
	ticker := time.NewTicker(max(t.Stall/10, time.Millisecond))
	defer ticker.Stop()
	began := time.Now()
	for last, moved := int64(0), began; ; {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
		}
		if now := f.progress.Load(); now != last {
			last, moved = now, time.Now()
			progress()
		}
		if time.Since(moved) > t.Stall || time.Since(began) > t.Total {
			f.abandoned = true
			return wrapSaveError(fmt.Errorf("gave up after %v: %w", time.Since(began).Round(time.Second), ErrStalled))
		}
	}
}

func wrapSaveError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("mailboxes not saved; the next start begins without them: %w", err)
}

// minSnapshotBytes is the size below which nothing more is dropped to make a snapshot fit.
const minSnapshotBytes = 4 << 10

// save writes the snapshot. If the disk is full, it drops messages until the rest fits. The
// bytes that were written before the error show how much that is; a file system that
// reports the error late needs further attempts.
func (f *File) save(m *memstore.Store) error {
	stats, written, err := f.write(m, math.MaxInt64)
	for limitBytes := written; diskfull.Is(err) && limitBytes >= minSnapshotBytes; limitBytes /= 2 {
		f.log.Warn("the disk is full: saving the mailboxes without the messages of the largest ones", "maxBytes", limitBytes, "err", err)
		stats, _, err = f.write(m, limitBytes)
	}
	if err == nil {
		err = os.Rename(f.newPath(), f.Path())
	}
	if err == nil {
		err = atomicfile.SyncDir(f.dir)
	}
	if err != nil {
		os.Remove(f.newPath())
		return wrapSaveError(err)
	}
	f.lock.Truncate(0) // if this fails, the next start finds the snapshot anyway
	f.log.Info("mailboxes saved", "inboxes", stats.Inboxes, "messages", stats.Messages)
	if stats.DroppedInboxes+stats.DroppedMessages > 0 {
		return fmt.Errorf("%w: %d mailboxes and %d messages were not saved; free space on it", ErrPartlySaved, stats.DroppedInboxes, stats.DroppedMessages)
	}
	return nil
}

// newPath returns the path that the snapshot is written to.
func (f *File) newPath() string { return f.Path() + ".new" }

// write writes a snapshot of at most limitBytes to newPath. On an error it removes the file
// and returns the number of bytes that were written.
func (f *File) write(m *memstore.Store, limitBytes int64) (stats memstore.SnapshotStats, writtenBytes int64, err error) {
	disk, err := f.Create(f.newPath())
	if err != nil {
		return stats, 0, err
	}
	w := &progressWriter{WriteSyncCloser: disk, progress: &f.progress}
	stats, err = m.SaveWithin(w, f.key, limitBytes)
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		os.Remove(f.newPath())
	}
	return stats, w.writtenBytes, err
}

// progressWriter syncs while it writes and counts its calls. Without that the system
// would buffer all of it, and the final sync would show no progress for minutes.
type progressWriter struct {
	WriteSyncCloser
	writtenBytes  int64
	unsyncedBytes int64
	progress      *atomic.Int64
}

func (w *progressWriter) Write(p []byte) (int, error) {
	n, err := w.WriteSyncCloser.Write(p)
	w.progress.Add(1)
	w.writtenBytes += int64(n)
	if w.unsyncedBytes += int64(n); err == nil && w.unsyncedBytes >= syncBytes {
		err = w.Sync()
	}
	return n, err
}

func (w *progressWriter) Sync() error {
	err := w.WriteSyncCloser.Sync()
	w.unsyncedBytes = 0
	w.progress.Add(1)
	return err
}
