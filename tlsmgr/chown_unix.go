//go:build unix

package tlsmgr

import (
	"os"
	"path/filepath"
	"syscall"
)

// chownLikeDir makes a file, and what lies between it and the directory, belong to
// whom the directory belongs to. Only root can, and needs to: it may examine
// what a service works with. That service may have put links there, so nothing
// beyond the directory is given away.
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
	for ; below != "." && filepath.IsLocal(below); below = filepath.Dir(below) {
		if l, err := root.Lstat(below); err == nil && l.Sys().(*syscall.Stat_t).Uid == 0 {
			_ = root.Lchown(below, int(owner.Uid), int(owner.Gid)) // whoever cannot use it then says so
		}
	}
}
