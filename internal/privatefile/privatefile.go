// Package privatefile opens files in a directory that belongs to this process. It refuses
// what another user can have placed there: symbolic links, devices, pipes, and files of
// another owner. A parent directory that others can write to is for [Inspect] to find.
//
// On systems without owners of files, only links and special files are refused.
package privatefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrUnsafe is wrapped by each error about a file that is refused.
var ErrUnsafe = errors.New("refusing the file")

// Open opens a regular file, like [os.OpenFile] with mode 0600. With write access, a file
// that has several hard links is refused too, because one of them can be elsewhere.
func Open(path string, flag int) (*os.File, error) {
	f, err := openNoFollow(path, flag)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = check(path, info, flag&(os.O_WRONLY|os.O_RDWR) != 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Read reads a file of at most limitBytes. A longer one is an error.
func Read(path string, limitBytes int64) ([]byte, error) {
	f, err := Open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limitBytes+1))
	if err == nil && int64(len(data)) > limitBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limitBytes)
	}
	return data, err
}

func check(path string, info fs.FileInfo, write bool) error {
	if !info.Mode().IsRegular() {
		return unsafe(path, "it is not a regular file")
	}
	if write && links(info) > 1 {
		return unsafe(path, "it has several hard links")
	}
	return checkOwner(path, info)
}

func unsafe(path, why string) error {
	return fmt.Errorf("%w %s: %s; another user could have placed it there, so check it and remove it", ErrUnsafe, path, why)
}

// maxInspected bounds the files that [Inspect] examines.
const maxInspected = 10_000

// Report describes the files below a directory.
type Report struct {
	// Writable reports that other users can write to the directory itself.
	Writable bool
	// Exposed are files that other users can read or write.
	Exposed []string
	// Unsafe has an error for each directory that is a symbolic link or has another owner.
	// Files in it must not be used.
	Unsafe []error
}

// Inspect examines a directory and what is below it. It skips what it cannot read. The
// directory itself can be a symbolic link, as that of a service of systemd is.
func Inspect(dir string) Report {
	var r Report
	if info, err := os.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if target, err := filepath.EvalSymlinks(dir); err == nil {
			dir = target
		}
	}
	if info, err := os.Stat(dir); err == nil {
		r.Writable = exposedMode(info)&0o022 != 0
	}
	left := maxInspected
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if left--; left < 0 {
			return fs.SkipAll
		}
		if err != nil || path == dir {
			return nil
		}
		r.add(path)
		return nil
	})
	return r
}

func (r *Report) add(path string) {
	info, err := os.Lstat(path)
	if err != nil {
		return
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if target, err := os.Stat(path); err == nil && target.IsDir() {
			r.Unsafe = append(r.Unsafe, unsafe(path, "it is a symbolic link"))
		}
	case info.IsDir():
		if err := checkOwner(path, info); err != nil {
			r.Unsafe = append(r.Unsafe, err)
		}
	case info.Mode().IsRegular() && exposedMode(info) != 0:
		r.Exposed = append(r.Exposed, path)
	}
}
