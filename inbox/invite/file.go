package invite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"inbox/internal/atomicfile"
	"inbox/internal/filelock"
	"inbox/internal/privatefile"
)

const (
	// FileName is the file of the invitations in the state directory, and LockName that of the
	// lock of those that change it.
	FileName = "invitations"
	LockName = "invitations.lock"
	// fileInterval is how late a server notices a change.
	fileInterval = 250 * time.Millisecond
	// lockTimeout bounds the wait for another process that changes the file.
	lockTimeout = 5 * time.Second
	lockRetry   = 20 * time.Millisecond
)

// File keeps the invitations in a state directory.
type File struct {
	path, lock string
	seen       fs.FileInfo // nil: no file was there
	polled     bool
}

// NewFile returns the storage in a state directory, which must exist.
func NewFile(dir string) *File {
	return &File{path: filepath.Join(dir, FileName), lock: filepath.Join(dir, LockName)}
}

// Interval implements [Storage].
func (f *File) Interval() time.Duration { return fileInterval }

// Poll implements [Storage]. It reads the file only if another one has replaced it.
func (f *File) Poll(context.Context) (text []byte, changed bool, err error) {
	info, err := os.Lstat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		changed = !f.polled || f.seen != nil
		f.seen, f.polled = nil, true
		return nil, changed, nil
	}
	if err != nil {
		return nil, false, err
	}
	if f.polled && f.seen != nil && os.SameFile(f.seen, info) && f.seen.ModTime().Equal(info.ModTime()) && f.seen.Size() == info.Size() {
		return nil, false, nil
	}
	if text, err = privatefile.Read(f.path, maxTextBytes); err != nil {
		return nil, false, err
	}
	f.seen, f.polled = info, true
	return text, true, nil
}

// Update implements [Storage]. The file belongs to the owner of the directory, also if root
// changes it.
func (f *File) Update(ctx context.Context, change func([]byte) ([]byte, error)) error {
	lock, err := f.acquire(ctx)
	if err != nil {
		return fmt.Errorf("lock the invitations: %w", err)
	}
	defer lock.Close()
	text, err := privatefile.Read(f.path, maxTextBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if text, err = change(text); err != nil {
		return err
	}
	return atomicfile.WriteForOwner(f.path, text)
}

// acquire locks the file between processes.
func (f *File) acquire(ctx context.Context) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	for {
		lock, err := filelock.TryLock(f.lock)
		if err == nil {
			if err = shareLock(lock); err == nil {
				return lock, nil
			}
			lock.Close()
		}
		if !errors.Is(err, filelock.ErrLocked) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(lockRetry):
		}
	}
}

// shareLock lets the user of the service lock a file that root has made.
func shareLock(lock *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	dir, err := os.Stat(filepath.Dir(lock.Name()))
	if err != nil {
		return err
	}
	return privatefile.Chown(lock, dir)
}
