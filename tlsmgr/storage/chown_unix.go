//go:build unix

package storage

import (
	"os"
	"path/filepath"
	"syscall"
)

// chownLikeDir changes the owner of a file, and of the directories between it and dir, from
// root to the owner of dir. It does nothing unless the process is root. It does not follow
// links out of dir, which the service can have created. It ignores errors: the service
// reports files that it cannot read.
func chownLikeDir(dir, path string) {
	if os.Geteuid() != 0 {
		return
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return
	}
	defer root.Close()
	info, err := root.Stat(".")
	below, outside := filepath.Rel(dir, path)
	if err != nil || outside != nil {
		return
	}
	owner := info.Sys().(*syscall.Stat_t)
	for ; owner.Uid != 0 && below != "." && filepath.IsLocal(below); below = filepath.Dir(below) {
		if l, err := root.Lstat(below); err == nil && l.Sys().(*syscall.Stat_t).Uid == 0 {
			_ = root.Lchown(below, int(owner.Uid), int(owner.Gid))
		}
	}
}
