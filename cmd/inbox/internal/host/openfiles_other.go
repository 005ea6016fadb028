//go:build !unix

package host

// MaxOpenMaxOpenFiles is how many files the process may have open; 0 when unknown.
func MaxOpenFiles() int64 { return 0 }
