package snapshot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"inbox/inbox/memstore"
	"inbox/internal/atomicfile"
)

// syncBytes bounds the bytes that wait in memory for the disk: few enough that a
// disk that writes 1 MB a second shows progress in time, and many enough that a
// fast one is not slowed down.
const syncBytes = 32 << 20

// ErrStalled is returned by [File.Save] when it gives up.
var ErrStalled = errors.New("the disk of the state directory hangs or is far too slow; check dmesg and df")

// Timeouts bound [File.Save].
type Timeouts struct {
	Stall time.Duration // without any progress
	Total time.Duration
}

// Save closes the mailboxes and writes them for the next start, atomically. It
// calls progress each time that something has reached the disk, at most ten times
// in t.Stall. When a timeout passes Save returns [ErrStalled] and leaves the
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
			return wrapSaveError(err)
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

func (f *File) save(m *memstore.Store) error {
	tmp := f.Path() + ".new"
	stats, err := f.write(m, tmp)
	if err == nil {
		err = os.Rename(tmp, f.Path())
	}
	if err == nil {
		err = atomicfile.SyncDir(f.dir)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	f.lock.Truncate(0) // if this fails, the next start finds the snapshot anyway
	f.log.Info("mailboxes saved", "inboxes", stats.Inboxes, "messages", stats.Messages)
	return nil
}

func (f *File) write(m *memstore.Store, path string) (memstore.SnapshotStats, error) {
	disk, err := f.Create(path)
	if err != nil {
		return memstore.SnapshotStats{}, err
	}
	w := &progressWriter{WriteSyncCloser: disk, progress: &f.progress}
	stats, err := m.Save(w, f.key)
	if err == nil {
		err = w.Sync()
	}
	return stats, errors.Join(err, w.Close())
}

// WriteSyncCloser is a file that a snapshot is written to.
type WriteSyncCloser interface {
	io.WriteCloser
	Sync() error
}

// createExclusive creates a file that must not exist, with mode 0600.
func createExclusive(path string) (WriteSyncCloser, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// progressWriter syncs while it writes and counts its calls. Without that the system
// would buffer all of it, and the final sync would show no progress for minutes.
type progressWriter struct {
	WriteSyncCloser
	unsyncedBytes int64
	progress      *atomic.Int64
}

func (w *progressWriter) Write(p []byte) (int, error) {
	n, err := w.WriteSyncCloser.Write(p)
	w.progress.Add(1)
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
