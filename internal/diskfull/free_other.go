//go:build !linux && !windows

package diskfull

// FreeBytes returns the space that the user can fill on the file system of a directory. ok
// is false if it is unknown.
func FreeBytes(string) (n uint64, ok bool) { return 0, false }
