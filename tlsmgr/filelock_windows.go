package tlsmgr

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// isLockedExclusively tells whether somebody holds a lock alone. It makes no file.
func isLockedExclusively(path string) bool { return wouldBlock(path, 0) }

// isLocked tells whether anybody holds a lock, alone or with others.
func isLocked(path string) bool { return wouldBlock(path, windows.LOCKFILE_EXCLUSIVE_LOCK) }

func wouldBlock(path string, mode uint32) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(lockFileEx(f, mode), windows.ERROR_LOCK_VIOLATION)
}

// lockFileEx locks the first byte until the file is closed: nobody reads or writes it.
func lockFileEx(f *os.File, mode uint32) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), mode|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
}

// tryLockFile tries to lock a file, alone or together with others that do not
// want it alone. It never waits.
func tryLockFile(path string, exclusive bool) (unlock func(), acquired bool, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, false, err
	}
	var how uint32 // together
	if exclusive {
		how = windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	if err = lockFileEx(f, how); err == nil {
		return func() { f.Close() }, true, nil
	}
	f.Close()
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return nil, false, nil
	}
	return nil, false, err
}

// chownLikeDir has nothing to do: files made in a directory have its permissions.
func chownLikeDir(string, string) {}
