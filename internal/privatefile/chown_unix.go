//go:build unix

package privatefile

import (
	"io/fs"
	"os"
	"syscall"
)

// Chown gives an open file the owner and the group of another. It takes no path: the owner of the
// directory could replace the file by a link to one of root's.
func Chown(f *os.File, like fs.FileInfo) error {
	owner, ok := like.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
