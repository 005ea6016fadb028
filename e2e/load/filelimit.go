package main

import (
	"fmt"
	"syscall"
)

// spareFiles are for everything but peers, in the server and in the tool.
const spareFiles = 1200

// raiseFileLimit raises the limit of open files of this process and of those that it starts.
func raiseFileLimit(files int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	most := limit.Max
	if limit.Cur = limit.Max; limit.Max < uint64(files) {
		limit.Cur, limit.Max = uint64(files), uint64(files) // needs CAP_SYS_RESOURCE
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("-peers needs %d open files, and the limit is %d: raise it with ulimit -n, or use fewer peers", files, most)
	}
	return nil
}
