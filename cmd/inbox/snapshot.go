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
	"inbox/inbox/memstore"
)

const (
	// snapshotName holds the mailboxes while no server runs.
	snapshotName = "mailboxes"
	// maxQuarantined is how many snapshots that could not be read are kept for a
	// person to look at; each may be as large as the queue.
	maxQuarantined = 3
	// lockRetryInterval is the time between two looks whether another server has ended.
	lockRetryInterval = 20 * time.Millisecond
)

// errLocked says that another process has a lock.
var errLocked = errors.New("another process has the lock")

// snapshotFile keeps mailboxes in the state directory while no server runs. The
// zero archive keeps nothing.
type snapshotFile struct {
	dir  string // empty: nothing is kept
	key  []byte
	log  *slog.Logger
	lock *os.File // held to the end: nobody else loads or saves; not empty while mailboxes are in use

	restored memstore.SnapshotStats // at the start
	loss     lossReason

	create    func(path string) (syncWriteCloser, error) // [newFile], but in tests of slow disks
	progress  atomic.Int64                               // of saving, that were done
	abandoned bool                                       // saving hangs, and may go on until the process is gone
}

// lossReason is why the start found no mailboxes where there should have been some.
type lossReason string

const (
	lossNone       lossReason = ""
	lossUnreadable lossReason = "unreadable" // the snapshot was set aside
	lossUnsaved    lossReason = "unsaved"    // the server before ended without one
)

// openSnapshotFile waits up to patience for another server on the directory, which
// may be about to save, and no longer than until ended. If the other goes on,
// that one keeps its mailboxes and this one does not.
func openSnapshotFile(dir string, key []byte, timeout time.Duration, done <-chan struct{}, log *slog.Logger) *snapshotFile {
	if dir == "" {
		return &snapshotFile{} // the log says so
	}
	path := filepath.Join(dir, snapshotName+".lock")
	lock, err := lockFile(path)
	if errors.Is(err, errLocked) {
		log.Info("another server uses the state directory: waiting for its end", "at most", timeout)
		lock, err = awaitLock(path, time.Now().Add(timeout), done)
	}
	if err != nil {
		log.Warn("a restart will lose all mailboxes: the state directory is not this server's alone; give it one of its own with -state", "err", err)
		return &snapshotFile{}
	}
	return &snapshotFile{dir: dir, key: key, log: log, lock: lock, create: createExclusive}
}

// awaitLock tries again until somebody has given the lock up.
func awaitLock(path string, deadline time.Time, done <-chan struct{}) (lock *os.File, err error) {
	for err = errLocked; errors.Is(err, errLocked) && time.Now().Before(deadline); {
		select {
		case <-done:
			return nil, err
		case <-time.After(lockRetryInterval):
			lock, err = lockFile(path)
		}
	}
	return lock, err
}

func (s *snapshotFile) path() string { return filepath.Join(s.dir, snapshotName) }

// load returns the mailboxes that were saved, or none. A snapshot that cannot
// be read is set aside.
func (s *snapshotFile) load(limits inbox.Limits) *memstore.Store {
	m, err := s.read(limits)
	if err == nil {
		return m
	}
	switch missing := errors.Is(err, fs.ErrNotExist); {
	case missing && s.wasInUse():
		s.loss = lossUnsaved
		s.log.Warn("the server before this one ended without saving its mailboxes, so they are lost: it crashed, was killed, or could not save")
	case !missing:
		s.loss = lossUnreadable
		quarantined, moved := s.quarantine()
		s.log.Warn("the saved mailboxes cannot be read: the server begins without any", "err", err, "file", quarantined, "moved", moved)
	}
	return memstore.New(limits)
}

func (s *snapshotFile) read(limits inbox.Limits) (*memstore.Store, error) {
	if s.dir == "" {
		return nil, fs.ErrNotExist
	}
	info, err := os.Lstat(s.path())
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	f, err := os.Open(s.path())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, stats, err := memstore.Load(limits, f, s.key)
	if err != nil {
		return nil, err
	}
	s.restored = stats
	s.log.Info("mailboxes taken up again", "inboxes", stats.Inboxes, "messages", stats.Messages)
	if stats.DroppedInboxes+stats.DroppedMessages > 0 {
		s.log.Warn("the limits are lower than before the restart: some mailboxes or messages were dropped",
			"inboxes", stats.DroppedInboxes, "messages", stats.DroppedMessages)
	}
	return m, nil
}

// quarantine renames the snapshot and removes the oldest of those set aside
// before, when they are too many.
func (s *snapshotFile) quarantine() (name string, err error) {
	prefix := snapshotName + ".bad-"
	name = prefix + time.Now().UTC().Format("20060102T150405.000000000")
	if err := os.Rename(s.path(), filepath.Join(s.dir, name)); err != nil {
		return "", err
	}
	quarantined, err := filepath.Glob(filepath.Join(s.dir, prefix+"*"))
	slices.Sort(quarantined)
	for _, old := range quarantined[:max(0, len(quarantined)-maxQuarantined)] {
		err = errors.Join(err, os.RemoveAll(old))
	}
	return name, err
}

// markInUse removes the snapshot, before the first request changes what it holds:
// after a crash the next start must not find messages that were read.
func (s *snapshotFile) markInUse() error {
	if s.dir == "" {
		return nil
	}
	// The snapshot last: as long as this fails, it is there for another start.
	for _, path := range []string{s.path() + ".new", s.path()} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove the saved mailboxes, which are in use from now on: %w", err)
		}
	}
	// A size takes no block of the disk, so it works on a full one, too.
	if err := errors.Join(s.lock.Truncate(1), s.lock.Sync(), syncDir(s.dir)); err != nil {
		return fmt.Errorf("note that the mailboxes are in use: %w", err)
	}
	return nil
}

// wasInUse is true when no save came after the last begin.
func (s *snapshotFile) wasInUse() bool {
	if s.lock == nil {
		return false
	}
	info, err := s.lock.Stat()
	return err == nil && info.Size() > 0
}

// save closes the mailboxes and keeps them for the next start. What it leaves
// is whole or not there.
func (s *snapshotFile) save(m *memstore.Store) error {
	if s.dir == "" {
		return nil
	}
	tmp := s.path() + ".new"
	stats, err := s.write(m, tmp)
	if err == nil {
		err = os.Rename(tmp, s.path())
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("save the mailboxes for the next start, which will have none: %w", err)
	}
	s.lock.Truncate(0) // else the next start finds the snapshot all the same
	s.log.Info("mailboxes saved", "inboxes", stats.Inboxes, "messages", stats.Messages)
	return nil
}

func (s *snapshotFile) write(m *memstore.Store, path string) (memstore.SnapshotStats, error) {
	disk, err := s.create(path)
	if err != nil {
		return memstore.SnapshotStats{}, err
	}
	w := &progressWriter{syncWriteCloser: disk, progress: &s.progress}
	stats, err := m.Save(w, s.key)
	if err == nil {
		err = w.Sync()
	}
	return stats, errors.Join(err, w.Close())
}

// close lets another server have the directory, unless something of ours could
// still be written there: then the lock ends with the process.
func (s *snapshotFile) close() {
	if s.lock != nil && !s.abandoned {
		s.lock.Close()
	}
}
