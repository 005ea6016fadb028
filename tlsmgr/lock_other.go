//go:build !unix

package tlsmgr

// lockFile locks nothing here; the library's own locks must do.
func lockFile(string, bool) (unlock func(), free bool, err error) { return func() {}, true, nil }
