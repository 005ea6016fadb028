//go:build unix

package tlsmgr

import (
	"io/fs"
	"syscall"
)

// inode returns the inode number, which distinguishes a file from its replacement of
// the same size and modification time.
func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino)
	}
	return 0
}
