//go:build !unix

package privatefile

import (
	"io/fs"
	"os"
)

func openNoFollow(path string, flag int) (*os.File, error) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, unsafe(path, "it is not a regular file")
	}
	return os.OpenFile(path, flag, 0o600)
}

func links(fs.FileInfo) uint64 { return 1 }

func checkOwner(string, fs.FileInfo) error { return nil }

func exposedMode(fs.FileInfo) fs.FileMode { return 0 }
