// Package snapshot keeps the mailboxes in a file of the state directory while no
// server runs. A lock in the directory makes sure that only one server loads and
// saves them. A server that crashes leaves no snapshot, so that messages that were
// already read do not come back.
package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
	"inbox/internal/atomicfile"
	"inbox/internal/filelock"
	"inbox/internal/privatefile"
)

const (
	// FileName is the name of the snapshot in the state directory, and LockName that of
	// its lock.
	FileName = "mailboxes"
	LockName = FileName + ".lock"
	// maxQuarantined is the number of unreadable snapshots kept for inspection;
	// each can be as large as all queued messages.
	maxQuarantined = 3
	// lockRetryInterval is the time between two attempts to lock the directory.
	lockRetryInterval = 20 * time.Millisecond
)

// File is the snapshot in a locked state directory. Its methods are called one at a
// time: Load, MarkInUse before the first request, Save at the end, Close.
type File struct {
	// Create opens a new file for the snapshot. Tests replace it with a slow disk.
	Create func(path string) (WriteSyncCloser, error)

	dir  string
	key  []byte
	log  *slog.Logger
	lock *os.File // its size is not 0 while mailboxes are in use

	progress  atomic.Int64 // writes and syncs done by Save
	abandoned bool         // a write hangs and could still complete
}

// Loss is the reason why mailboxes of the previous server could not be restored.
type Loss string

// The reasons, as they appear in the metrics.
const (
	NoLoss     Loss = ""
	Unreadable Loss = "unreadable" // the snapshot was quarantined
	Unsaved    Loss = "unsaved"    // the previous server ended without a snapshot
)

// Restored describes what Load restored.
type Restored struct {
	memstore.SnapshotStats
	Loss Loss
}

// Open locks the directory. If another server holds the lock, Open waits up to timeout
// for that server to save and exit, and returns early with an error when done is closed.
// key authenticates the snapshot.
func Open(dir string, key []byte, timeout time.Duration, done <-chan struct{}, log *slog.Logger) (*File, error) {
	path := filepath.Join(dir, LockName)
	lock, err := filelock.TryLock(path)
	if errors.Is(err, filelock.ErrLocked) {
		log.Info("waiting for another server to release the state directory", "timeout", timeout)
		lock, err = awaitLock(path, time.Now().Add(timeout), done)
	}
	if err != nil {
		return nil, err
	}
	return &File{dir: dir, key: key, log: log, lock: lock, Create: createExclusive}, nil
}

// awaitLock retries until the lock is free.
func awaitLock(path string, deadline time.Time, done <-chan struct{}) (lock *os.File, err error) {
	for err = filelock.ErrLocked; errors.Is(err, filelock.ErrLocked) && time.Now().Before(deadline); {
		select {
		case <-done:
			return nil, err
		case <-time.After(lockRetryInterval):
			lock, err = filelock.TryLock(path)
		}
	}
	return lock, err
}

// Path returns the path of the snapshot.
func (f *File) Path() string { return filepath.Join(f.dir, FileName) }

// Load returns the saved mailboxes, or empty ones. A snapshot that cannot be read is
// quarantined. Losses are logged.
func (f *File) Load(limits inbox.Limits) (*memstore.Store, Restored) {
	m, stats, err := f.read(limits)
	if err == nil {
		f.log.Info("mailboxes restored", "inboxes", stats.Inboxes, "messages", stats.Messages)
		if stats.DroppedInboxes+stats.DroppedMessages > 0 {
			f.log.Warn("mailboxes or messages dropped: the limits are lower than before the restart",
				"inboxes", stats.DroppedInboxes, "messages", stats.DroppedMessages)
		}
		return m, Restored{SnapshotStats: stats}
	}
	var r Restored
	switch missing := errors.Is(err, fs.ErrNotExist); {
	case missing && f.wasInUse():
		r.Loss = Unsaved
		f.log.Warn("the previous server did not save its mailboxes, so they are lost: it crashed, was killed, or failed to save")
	case !missing:
		r.Loss = Unreadable
		quarantined, quarantineErr := f.quarantine()
		f.log.Warn("cannot read the saved mailboxes: starting without them", "err", errors.Join(err, quarantineErr), "quarantined", quarantined)
	}
	return memstore.New(limits), r
}

func (f *File) read(limits inbox.Limits) (*memstore.Store, memstore.SnapshotStats, error) {
	file, err := privatefile.Open(f.Path(), os.O_RDONLY)
	if err != nil {
		return nil, memstore.SnapshotStats{}, err
	}
	defer file.Close()
	return memstore.Load(limits, file, f.key)
}

// quarantine renames the snapshot and removes the oldest of those quarantined
// before, if there are too many.
func (f *File) quarantine() (name string, err error) {
	prefix := FileName + ".bad-"
	name = prefix + time.Now().UTC().Format("20060102T150405.000000000")
	if err := os.Rename(f.Path(), filepath.Join(f.dir, name)); err != nil {
		return "", err
	}
	quarantined, err := filepath.Glob(filepath.Join(f.dir, prefix+"*"))
	slices.Sort(quarantined)
	for _, old := range quarantined[:max(0, len(quarantined)-maxQuarantined)] {
		err = errors.Join(err, os.RemoveAll(old))
	}
	return name, err
}

// MarkInUse removes the snapshot, before the first request changes the mailboxes:
// after a crash the next start must not find messages that were read.
func (f *File) MarkInUse() error {
	// The snapshot last: if this fails, the next start still finds it.
	for _, path := range []string{f.Path() + ".new", f.Path()} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove the saved mailboxes, which are now in use: %w", err)
		}
	}
	// A size needs no block of the disk, so this works on a full disk.
	if err := errors.Join(f.lock.Truncate(1), f.lock.Sync(), atomicfile.SyncDir(f.dir)); err != nil {
		return fmt.Errorf("mark the mailboxes as in use: %w", err)
	}
	return nil
}

// wasInUse reports whether the previous server ended without saving.
func (f *File) wasInUse() bool {
	info, err := f.lock.Stat()
	return err == nil && info.Size() > 0
}

// Close unlocks the directory, unless a write of Save could still complete: the lock
// then ends with the process.
func (f *File) Close() {
	if !f.abandoned {
		f.lock.Close()
	}
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
