//go:build unix

package privatefile

import (
	"io/fs"
	"os"
	"syscall"
)

// Chown gives a file the owner and the group of another.
func Chown(path string, like fs.FileInfo) error {
	owner, ok := like.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}
