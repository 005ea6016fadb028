//go:build unix

package host

import "syscall"

// MaxOpenFiles returns the process's limit of open files, 0 if unknown. The Go
// runtime has already raised the soft limit to the hard limit.
func MaxOpenFiles() int64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int64(min(uint64(limit.Cur), 1<<30))
}
