package tlsmgr

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// held tells whether somebody holds a lock alone. It makes no file.
func held(path string) bool { return taken(path, 0) }

// attended tells whether anybody holds a lock, alone or with others.
func attended(path string) bool { return taken(path, windows.LOCKFILE_EXCLUSIVE_LOCK) }

func taken(path string, how uint32) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(tryLock(f, how), windows.ERROR_LOCK_VIOLATION)
}

// tryLock locks the first byte until the file is closed: nobody reads or writes it.
func tryLock(f *os.File, how uint32) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), how|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
}

// lockFile tries to lock a file, alone or together with others that do not
// want it alone. It never waits.
func lockFile(path string, alone bool) (unlock func(), free bool, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, false, err
	}
	var how uint32 // together
	if alone {
		how = windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	if err = tryLock(f, how); err == nil {
		return func() { f.Close() }, true, nil
	}
	f.Close()
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return nil, false, nil
	}
	return nil, false, err
}

// giveTo has nothing to do: files made in a directory have its permissions.
func giveTo(string, string) {}
