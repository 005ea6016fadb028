// Package atomicfile writes small private files such that a reader, or a start
// after a crash, finds the old content or the new content and nothing between.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"inbox/internal/privatefile"
)

// Write replaces the file, or creates it, with mode 0600. The directory must exist.
func Write(path string, data []byte) error {
	tmp, err := writeTemp(path, data, nil)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	return os.Rename(tmp, path)
}

// WriteForOwner is Write for a directory of another user, such as that of a service: a file that
// root writes belongs to the owner of the directory.
func WriteForOwner(path string, data []byte) error {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	tmp, err := writeTemp(path, data, func(f *os.File) error {
		if os.Geteuid() != 0 {
			return nil
		}
		return privatefile.Chown(f, dir)
	})
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	return os.Rename(tmp, path)
}

// Create writes the file with mode 0600 unless it exists: then it returns an
// error that is [fs.ErrExist]. Of several processes one succeeds. On a file
// system without hard links the last one succeeds instead.
func Create(path string, data []byte) error {
	if _, err := os.Stat(path); err == nil {
		return fs.ErrExist
	}
	tmp, err := writeTemp(path, data, nil)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	err = os.Link(tmp, path) // unlike Rename it replaces nothing
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		return os.Rename(tmp, path)
	}
	return err
}

// writeTemp writes a synced temporary file beside path. It lets prepare change the file before it is
// closed, if that is not nil.
func writeTemp(path string, data []byte, prepare func(*os.File) error) (name string, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // created with 0600
	if err != nil {
		return "", err
	}
	_, err = tmp.Write(data)
	if err == nil && prepare != nil {
		err = prepare(tmp)
	}
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		os.Remove(tmp.Name())
		return "", err
	}
	return tmp.Name(), nil
}

// Read is [os.ReadFile] with a limit, for a path that can lead to a device. A
// longer file is an error.
func Read(path string, limitBytes int64) ([]byte, error) {
	f, err := os.Open(path)
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
