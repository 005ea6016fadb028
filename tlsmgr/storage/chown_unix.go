//go:build unix

package storage

import (
	"os"
	"path/filepath"
	"syscall"
)

// chownLikeDir gives a file, and the directories between it and dir, the owner of
// dir, where root owns them. It does nothing unless the process is root. The
// service that owns dir can have put links into it, so nothing outside is
// changed. Failures are left to the service to report.
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
