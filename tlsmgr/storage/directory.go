package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"inbox/internal/atomicfile"
	"inbox/internal/filelock"
	"inbox/internal/privatefile"
)

// maxValueBytes is more than any certificate chain, key or schedule has.
const maxValueBytes = 4 << 20

// Directory is a [Storage] in a local directory. Each value is a file with mode 0600, and
// each lock is a file lock, which the system releases when the process dies. If the
// process runs as root, new files get the owner of the parent directory, so that root can
// run the doctor without making files unreadable for the service.
type Directory struct {
	dir string
	log *slog.Logger
}

// ErrNoDirectory is the error of each call to a [Directory] without a path.
var ErrNoDirectory = errors.New("there is no state directory")

// NewDirectory returns a storage in dir, which is created by the first write. If dir is
// empty, each call returns [ErrNoDirectory].
func NewDirectory(dir string, log *slog.Logger) *Directory { return &Directory{dir, log} }

func (d *Directory) path(key string) (string, error) {
	if d.dir == "" {
		return "", ErrNoDirectory
	}
	path := filepath.FromSlash(key)
	if path == "" || !filepath.IsLocal(path) {
		return "", fmt.Errorf("storage key %q: %w", key, fs.ErrInvalid)
	}
	return filepath.Join(d.dir, path), nil
}

// Load implements [Storage].
func (d *Directory) Load(_ context.Context, key string) ([]byte, error) {
	path, err := d.path(key)
	if err != nil {
		return nil, err
	}
	return privatefile.Read(path, maxValueBytes)
}

// Store implements [Storage].
func (d *Directory) Store(_ context.Context, key string, value []byte) error {
	path, err := d.create(key)
	if err != nil {
		return err
	}
	defer chownLikeDir(filepath.Dir(d.dir), path)
	return atomicfile.Write(path, value)
}

// create creates the directory of a key and returns the path of its file.
func (d *Directory) create(key string) (path string, err error) {
	if path, err = d.path(key); err != nil {
		return "", err
	}
	return path, os.MkdirAll(filepath.Dir(path), 0o700)
}

// Delete implements [Storage].
func (d *Directory) Delete(_ context.Context, key string) error {
	path, err := d.path(key)
	if err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// List implements [Storage].
func (d *Directory) List(_ context.Context, key string) ([]string, error) {
	root, err := d.path(key)
	if err != nil {
		return nil, err
	}
	var keys []string
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && path != root {
			below, relErr := filepath.Rel(d.dir, path)
			keys, err = append(keys, filepath.ToSlash(below)), relErr
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	slices.Sort(keys)
	return keys, err
}

// TryLock implements [Storage]. The lease cannot be lost.
func (d *Directory) TryLock(_ context.Context, key string) (Lease, error) {
	path, err := d.create(key)
	if err != nil {
		return nil, err
	}
	file, err := filelock.TryLock(path)
	chownLikeDir(filepath.Dir(d.dir), path)
	if errors.Is(err, filelock.ErrLocked) {
		return nil, ErrLocked
	}
	if err != nil {
		return nil, err
	}
	return directoryLease{d, file}, nil
}

// directoryLease is a file lock.
type directoryLease struct {
	*Directory
	file *os.File
}

func (directoryLease) Done() <-chan struct{} { return nil }
func (directoryLease) Err() error            { return nil }
func (l directoryLease) Release()            { l.file.Close() }

// IsLocked implements [Storage]. It creates no file.
func (d *Directory) IsLocked(_ context.Context, key string) (bool, error) {
	path, err := d.path(key)
	return err == nil && filelock.HeldExclusively(path), err
}

// Quarantine implements [Storage]. It renames the file, so that an operator can examine it.
func (d *Directory) Quarantine(_ context.Context, key string) error {
	path, err := d.path(key)
	if err != nil {
		return err
	}
	to := fmt.Sprintf("%s.damaged-%d", path, time.Now().Unix())
	switch err := os.Rename(path, to); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		d.log.Error("a damaged file cannot be quarantined; remove it", "file", path, "err", err)
		return err
	}
	d.log.Warn("a damaged file was quarantined; the usual cause is a power failure", "file", path, "as", filepath.Base(to))
	return nil
}

// Shared implements [Storage].
func (d *Directory) Shared() bool { return false }

// presenceLock is a shared lock that each server with this directory holds.
const presenceLock = "serving.lock"

// MarkInUse makes [Directory.InUse] return true until release is called or the process
// dies. It creates the directory.
func (d *Directory) MarkInUse() (release func()) {
	path, err := d.create(presenceLock)
	for range 10 { // InUse acquires a conflicting lock for a moment
		if err != nil {
			break
		}
		if file, err := filelock.TryShare(path); err == nil {
			return func() { file.Close() }
		}
		time.Sleep(10 * time.Millisecond)
	}
	return func() {}
}

// InUse reports whether a server uses the directory. It writes nothing.
func (d *Directory) InUse() bool {
	path, err := d.path(presenceLock)
	return err == nil && filelock.Held(path)
}
