package filelock

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

func lock(f *os.File, exclusive bool) error {
	mode := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if exclusive {
		mode |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	// One byte far behind the end: Windows denies other processes access to the
	// locked region itself.
	region := &windows.Overlapped{OffsetHigh: 1 << 30}
	err := windows.LockFileEx(windows.Handle(f.Fd()), mode, 0, 1, 0, region)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrLocked
	}
	return err
}
