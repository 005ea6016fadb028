//go:build unix

package privatefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// openNoFollow does not wait for the writer of a pipe.
func openNoFollow(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EMLINK) { // EMLINK on FreeBSD
		return nil, unsafe(path, "it is a symbolic link")
	}
	return f, err
}

func links(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Nlink)
	}
	return 1
}

// checkOwner accepts this process's user and root. Root also accepts the owner of the
// directory, as it examines the directories of services.
func checkOwner(path string, info fs.FileInfo) error {
	uid, ok := owner(info)
	if !ok || uid == 0 || uid == os.Geteuid() {
		return nil
	}
	dir := filepath.Dir(path)
	if parent, err := os.Stat(dir); err == nil && os.Geteuid() == 0 {
		if parentUID, ok := owner(parent); ok && parentUID == uid {
			return nil
		}
	}
	if uid == newFileOwner(dir) {
		return nil
	}
	return unsafe(path, "it belongs to another user")
}

// newFileOwner returns the owner of a new file in a directory, or -1. Network and foreign
// file systems give all files an owner of their own.
func newFileOwner(dir string) int {
	f, err := os.CreateTemp(dir, ".try-*")
	if err != nil {
		return -1
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		if uid, ok := owner(info); ok {
			return uid
		}
	}
	return -1
}

func owner(info fs.FileInfo) (uid int, ok bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(s.Uid), true
}

// exposedMode returns the permissions of other users and of the group.
func exposedMode(info fs.FileInfo) fs.FileMode { return info.Mode().Perm() & 0o077 }
