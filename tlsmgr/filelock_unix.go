//go:build unix

package tlsmgr

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// isLockedExclusively tells whether somebody holds a lock alone. It makes no file.
func isLockedExclusively(path string) bool { return wouldBlock(path, syscall.LOCK_SH) }

// isLocked tells whether anybody holds a lock, alone or with others.
func isLocked(path string) bool { return wouldBlock(path, syscall.LOCK_EX) }

func wouldBlock(path string, mode int) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(syscall.Flock(int(f.Fd()), mode|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

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

// tryLockFile tries to lock a file, alone or together with others that do not
// want it alone. It never waits.
func tryLockFile(path string, exclusive bool) (unlock func(), acquired bool, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, false, err
	}
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if err == nil {
		return func() { f.Close() }, true, nil
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, false, nil
	}
	return nil, false, err
}
