package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"inbox/internal/diskfull"
	"inbox/internal/privatefile"
)

const (
	// Enough for years of certificates; with less, something else fills the disk.
	minFreeBytes  = 64 << 20
	minFreeInodes = 1000
)

// checkState writes to the state directory as the server does, and cleans up.
func (e *examination) checkState(context.Context) []Finding {
	if e.StateDir == "" {
		return []Finding{failure("", "No state directory for certificates, keys and the secret.",
			"Set -state, or start under systemd with StateDirectory=inbox.")}
	}
	created, err := makeDir(e.StateDir)
	defer removeDirs(created)
	if err == nil {
		err = testDir(e.StateDir)
	}
	if err != nil {
		return []Finding{failure(e.StateDir, fmt.Sprintf("The directory is unusable: %v.", err), fixForWrite(err))}
	}
	found := append(e.checkPlanted(), e.checkDisk()...)
	found = append(found, checkDirMode(e.StateDir)...)
	if len(found) == 0 {
		return []Finding{good(e.StateDir, "Writable and persistent.")}
	}
	return found
}

// checkPlanted finds what another user can have placed in the directory, and files that
// other users can read.
func (e *examination) checkPlanted() (found []Finding) {
	dir := e.StateDir
	r := privatefile.Inspect(dir)
	for _, err := range r.Unsafe {
		found = append(found, failure(dir, fmt.Sprintf("The server would not start: %v.", err), "Check it, and remove it."))
	}
	for _, name := range e.PrivateFiles {
		f, err := privatefile.Open(filepath.Join(dir, name), os.O_RDONLY)
		switch {
		case errors.Is(err, privatefile.ErrUnsafe):
			found = append(found, failure(dir, fmt.Sprintf("The server refuses a file: %v.", err), "Check it, and remove it."))
		case err == nil:
			f.Close()
		}
	}
	if len(r.Exposed) > 0 {
		found = append(found, warning(r.Exposed[0], "Other users can read or write "+plural(len(r.Exposed), "file")+" of the state directory.", "chmod -R go-rwx "+dir))
	}
	return found
}

// makeDir creates a directory and its parents and returns those that it created,
// outermost first.
func makeDir(dir string) (created []string, err error) {
	// MkdirAll would report that the link of DynamicUser= to a closed directory exists.
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	// On Windows even the root can be missing.
	for missing := filepath.Clean(dir); !exists(missing) && missing != filepath.Dir(missing); missing = filepath.Dir(missing) {
		created = append([]string{missing}, created...)
	}
	return created, os.MkdirAll(dir, 0o700)
}

// removeDirs removes directories unless they have been filled. The server creates
// them again, as its own user.
func removeDirs(created []string) {
	for i := len(created) - 1; i >= 0; i-- {
		os.Remove(created[i])
	}
}

// testDir writes a file as the server writes a certificate (write, sync, rename)
// and reads it back.
func testDir(dir string) error {
	text := []byte(rand.Text())
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return err
	}
	renamed := f.Name() + "-kept"
	defer os.Remove(renamed)
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), renamed); err != nil {
		return err
	}
	read, err := os.ReadFile(renamed)
	if err == nil && !bytes.Equal(read, text) {
		err = errors.New("a file that was just written has other content")
	}
	return err
}

// runAsServer is the fix if the user of the doctor cannot read what the server can.
const runAsServer = "Run the doctor as root, or as the user that the server runs as."

// fixForWrite returns what to do about an error from writing to the directory.
func fixForWrite(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return runAsServer + " If it is that user, change the owner of the directory (chown), or set -state to another directory."
	case diskfull.Is(err):
		return "Free some space on its file system, or set -state to another directory."
	case errors.Is(err, syscall.EROFS):
		return "The file system is read-only: mount it read-write, list the directory in ReadWritePaths= of the unit, or set -state to another directory."
	case errors.Is(err, syscall.ENOTDIR):
		return "The path contains a file: move the file, or set -state to another directory."
	}
	return "Set -state to another directory."
}

// checkDirMode warns if other users have access to the directory.
func checkDirMode(dir string) []Finding {
	info, err := os.Stat(dir)
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return []Finding{warning(dir, fmt.Sprintf("Other users have access (mode %04o), and the directory holds private keys.", info.Mode().Perm()), "chmod 700 "+dir)}
}

// checkDisk checks the file system of the directory.
func (e *examination) checkDisk() []Finding {
	d, err := e.disk(e.StateDir)
	if err != nil {
		return []Finding{warning(e.StateDir, fmt.Sprintf("The file system could not be examined: %v.", err),
			"Make sure that there is free space, and that files persist across restarts.")}
	}
	var found []Finding
	if d.ephemeral != "" {
		found = append(found, warning(e.StateDir, "The directory "+d.ephemeral+", so certificates are lost at a restart. Ordering them again each time exceeds the CA's rate limits.",
			"Set -state to a persistent directory, like /var/lib/inbox; in a container, to one on a volume."))
	}
	if d.freeBytes < minFreeBytes {
		found = append(found, warning(e.StateDir, fmt.Sprintf("Only %d MiB are free on the file system.", d.freeBytes>>20), "Free some space."))
	}
	if d.allInodes > 0 && d.freeInodes < minFreeInodes {
		found = append(found, warning(e.StateDir, fmt.Sprintf("Only %d inodes are free on the file system.", d.freeInodes), "Remove unused small files."))
	}
	return found
}

// ephemeralPath returns why files at a path are lost at a restart, "" if they are not.
func ephemeralPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for _, prefix := range []string{"/tmp", "/var/tmp", "/run", "/var/run", "/dev/shm"} {
		if path == prefix || strings.HasPrefix(path, prefix+"/") {
			return "is below " + prefix + ", which is emptied"
		}
	}
	return ""
}
