//go:build unix

package host

import "syscall"

// MaxOpenFiles is how many files the process may have open; 0 when unknown. Go
// has raised the soft limit to the hard one already.
func MaxOpenFiles() int64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int64(min(uint64(limit.Cur), 1<<30))
}
