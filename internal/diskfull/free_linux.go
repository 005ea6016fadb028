package diskfull

import "syscall"

// FreeBytes returns the space that the user can fill on the file system of a directory. ok
// is false if it is unknown.
func FreeBytes(dir string) (n uint64, ok bool) {
	var s syscall.Statfs_t
	err := syscall.Statfs(dir, &s)
	return s.Bavail * uint64(s.Bsize), err == nil
}
