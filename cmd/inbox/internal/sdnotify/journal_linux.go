package sdnotify

import (
	"fmt"
	"syscall"
)

// isJournal reports whether stream, the value of $JOURNAL_STREAM, is the device
// and inode of f. They differ if stderr was redirected.
func isJournal(f file, stream string) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", s.Dev, s.Ino)
}
