package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"inbox/inbox"
)

const (
	// snapshotFile holds the mailboxes while no server runs.
	snapshotFile = "mailboxes"
	// keptAside is how many snapshots that could not be read are kept for a
	// person to look at; each may be as large as the queue.
	keptAside = 3
	// lockPause is the time between two looks whether another server has ended.
	lockPause = 20 * time.Millisecond
)

// errTaken says that another process has a lock.
var errTaken = errors.New("another process has the lock")

// archive keeps mailboxes in the state directory while no server runs. The
// zero archive keeps nothing.
type archive struct {
	dir  string // empty: nothing is kept
	key  []byte
	log  *slog.Logger
	lock *os.File // held to the end: nobody else loads or saves; not empty while mailboxes are in use

	restored inbox.SnapshotStats // at the start
	lost     loss

	create    func(path string) (file, error) // [newFile], but in tests of slow disks
	steps     atomic.Int64                    // of saving, that were done
	abandoned bool                            // saving hangs, and may go on until the process is gone
}

// loss is why the start found no mailboxes where there should have been some.
type loss string

const (
	lostNothing    loss = ""
	lostUnreadable loss = "unreadable" // the snapshot was set aside
	lostUnsaved    loss = "unsaved"    // the server before ended without one
)

// openArchive waits up to patience for another server on the directory, which
// may be about to save, and no longer than until ended. If the other goes on,
// that one keeps its mailboxes and this one does not.
func openArchive(dir string, key []byte, patience time.Duration, ended <-chan struct{}, log *slog.Logger) *archive {
	if dir == "" {
		return &archive{} // the log says so
	}
	path := filepath.Join(dir, snapshotFile+".lock")
	lock, err := lockFile(path)
	if errors.Is(err, errTaken) {
		log.Info("another server uses the state directory: waiting for its end", "at most", patience)
		lock, err = awaitLock(path, time.Now().Add(patience), ended)
	}
	if err != nil {
		log.Warn("a restart will lose all mailboxes: the state directory is not this server's alone; give it one of its own with -state", "err", err)
		return &archive{}
	}
	return &archive{dir: dir, key: key, log: log, lock: lock, create: newFile}
}

// awaitLock tries again until somebody has given the lock up.
func awaitLock(path string, end time.Time, ended <-chan struct{}) (lock *os.File, err error) {
	for err = errTaken; errors.Is(err, errTaken) && time.Now().Before(end); {
		select {
		case <-ended:
			return nil, err
		case <-time.After(lockPause):
			lock, err = lockFile(path)
		}
	}
	return lock, err
}

func (a *archive) path() string { return filepath.Join(a.dir, snapshotFile) }

// load returns the mailboxes that were saved, or none. A snapshot that cannot
// be read is set aside.
func (a *archive) load(limits inbox.Limits) *inbox.Memory {
	m, err := a.read(limits)
	if err == nil {
		return m
	}
	switch missing := errors.Is(err, fs.ErrNotExist); {
	case missing && a.wasInUse():
		a.lost = lostUnsaved
		a.log.Warn("the server before this one ended without saving its mailboxes, so they are lost: it crashed, was killed, or could not save")
	case !missing:
		a.lost = lostUnreadable
		aside, moved := a.setAside()
		a.log.Warn("the saved mailboxes cannot be read: the server begins without any", "err", err, "file", aside, "moved", moved)
	}
	return inbox.NewMemory(limits)
}

func (a *archive) read(limits inbox.Limits) (*inbox.Memory, error) {
	if a.dir == "" {
		return nil, fs.ErrNotExist
	}
	info, err := os.Lstat(a.path())
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	f, err := os.Open(a.path())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, stats, err := inbox.LoadMemory(limits, f, a.key)
	if err != nil {
		return nil, err
	}
	a.restored = stats
	a.log.Info("mailboxes taken up again", "inboxes", stats.Inboxes, "messages", stats.Messages)
	if stats.DroppedInboxes+stats.DroppedMessages > 0 {
		a.log.Warn("the limits are lower than before the restart: some mailboxes or messages were dropped",
			"inboxes", stats.DroppedInboxes, "messages", stats.DroppedMessages)
	}
	return m, nil
}

// setAside renames the snapshot and removes the oldest of those set aside
// before, when they are too many.
func (a *archive) setAside() (name string, err error) {
	prefix := snapshotFile + ".bad-"
	name = prefix + time.Now().UTC().Format("20060102T150405.000000000")
	if err := os.Rename(a.path(), filepath.Join(a.dir, name)); err != nil {
		return "", err
	}
	aside, err := filepath.Glob(filepath.Join(a.dir, prefix+"*"))
	slices.Sort(aside)
	for _, old := range aside[:max(0, len(aside)-keptAside)] {
		err = errors.Join(err, os.RemoveAll(old))
	}
	return name, err
}

// begin removes the snapshot, before the first request changes what it holds:
// after a crash the next start must not find messages that were read.
func (a *archive) begin() error {
	if a.dir == "" {
		return nil
	}
	// The snapshot last: as long as this fails, it is there for another start.
	for _, path := range []string{a.path() + ".new", a.path()} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove the saved mailboxes, which are in use from now on: %w", err)
		}
	}
	// A size takes no block of the disk, so it works on a full one, too.
	if err := errors.Join(a.lock.Truncate(1), a.lock.Sync(), syncDir(a.dir)); err != nil {
		return fmt.Errorf("note that the mailboxes are in use: %w", err)
	}
	return nil
}

// wasInUse is true when no save came after the last begin.
func (a *archive) wasInUse() bool {
	if a.lock == nil {
		return false
	}
	info, err := a.lock.Stat()
	return err == nil && info.Size() > 0
}

// save closes the mailboxes and keeps them for the next start. What it leaves
// is whole or not there.
func (a *archive) save(m *inbox.Memory) error {
	if a.dir == "" {
		return nil
	}
	fresh := a.path() + ".new"
	stats, err := a.write(m, fresh)
	if err == nil {
		err = os.Rename(fresh, a.path())
	}
	if err == nil {
		err = syncDir(a.dir)
	}
	if err != nil {
		os.Remove(fresh)
		return fmt.Errorf("save the mailboxes for the next start, which will have none: %w", err)
	}
	a.lock.Truncate(0) // else the next start finds the snapshot all the same
	a.log.Info("mailboxes saved", "inboxes", stats.Inboxes, "messages", stats.Messages)
	return nil
}

func (a *archive) write(m *inbox.Memory, path string) (inbox.SnapshotStats, error) {
	disk, err := a.create(path)
	if err != nil {
		return inbox.SnapshotStats{}, err
	}
	f := &steadyFile{file: disk, steps: &a.steps}
	stats, err := m.Save(f, a.key)
	if err == nil {
		err = f.Sync()
	}
	return stats, errors.Join(err, f.Close())
}

// close lets another server have the directory, unless something of ours could
// still be written there: then the lock ends with the process.
func (a *archive) close() {
	if a.lock != nil && !a.abandoned {
		a.lock.Close()
	}
}
