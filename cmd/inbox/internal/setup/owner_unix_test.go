//go:build unix

package setup

import (
	"fmt"
	"io/fs"
	"syscall"
)

// ownerOf returns the user and the group of a file.
func ownerOf(info fs.FileInfo) string {
	s := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", s.Uid, s.Gid)
}
