//go:build !unix

package host

// MaxOpenFiles returns the limit of open files; it is unknown on this system: 0.
func MaxOpenFiles() int64 { return 0 }
