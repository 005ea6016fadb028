//go:build !unix && !windows

package diskfull

// Is reports whether err means that the disk or the quota of the user is full.
func Is(error) bool { return false }
