//go:build !unix && !windows

package tlsmgr

// tryLockFile locks nothing here; the library's own locks must do.
func tryLockFile(string, bool) (unlock func(), acquired bool, err error) { return func() {}, true, nil }

func isLockedExclusively(string) bool { return false }
func isLocked(string) bool            { return false }

func chownLikeDir(string, string) {}
