//go:build unix

package setup

import (
	"io/fs"
	"os"
	"syscall"
)

// chown gives a file the owner and the group of another.
func chown(path string, like fs.FileInfo) error {
	owner, ok := like.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}
