package sdnotify

import (
	"fmt"
	"os"
	"syscall"
)

// isJournal is true when stream, which systemd put into the environment, names
// this very file by device and inode: it may have been led elsewhere since.
func isJournal(f *os.File, stream string) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", s.Dev, s.Ino)
}
