// Package filelock locks files between processes. A lock ends when its file is
// closed or its process dies, whatever the reason. No function waits. The
// contents and size of a locked file can be read and changed meanwhile. What
// another user can have placed at the path is refused, as by package privatefile.
//
// On systems without flock or LockFileEx nothing is locked: every lock is
// acquired and none is reported as held.
package filelock

import (
	"errors"
	"os"

	"inbox/internal/privatefile"
)

// ErrLocked is returned when another process, or another open file of this
// process, holds a conflicting lock.
var ErrLocked = errors.New("another process holds the lock")

// TryLock locks the file exclusively, creating it with mode 0600 if needed.
// Closing the returned file releases the lock. The error is [ErrLocked] while
// any other lock is held.
func TryLock(path string) (*os.File, error) { return open(path, true) }

// TryShare locks the file together with other shared locks, creating it with
// mode 0600 if needed. Closing the returned file releases the lock. The error
// is [ErrLocked] while an exclusive lock is held.
func TryShare(path string) (*os.File, error) { return open(path, false) }

// Held reports whether the file is locked, exclusively or shared. It creates no file.
func Held(path string) bool { return conflicts(path, true) }

// HeldExclusively reports whether the file is locked exclusively. It creates no file.
func HeldExclusively(path string) bool { return conflicts(path, false) }

func open(path string, exclusive bool) (*os.File, error) {
	f, err := privatefile.Open(path, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err = lock(f, exclusive); err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, ErrLocked) {
		return nil, ErrLocked
	}
	return nil, &os.PathError{Op: "lock", Path: path, Err: err}
}

func conflicts(path string, exclusive bool) bool {
	f, err := privatefile.Open(path, os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(lock(f, exclusive), ErrLocked)
}
