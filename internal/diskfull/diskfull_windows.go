package diskfull

import (
	"errors"

	"golang.org/x/sys/windows"
)

// Is reports whether err means that the disk or the quota of the user is full.
func Is(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}

// FreeBytes returns the space that the user can fill on the file system of a directory. ok
// is false if it is unknown.
func FreeBytes(dir string) (n uint64, ok bool) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, false
	}
	err = windows.GetDiskFreeSpaceEx(path, &n, nil, nil)
	return n, err == nil
}
