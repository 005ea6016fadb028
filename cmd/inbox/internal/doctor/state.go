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
)

const (
	// Enough for years of certificates; below it something else fills the disk.
	minFreeBytes  = 64 << 20
	minFreeInodes = 1000
)

// disk is what a file system says of itself.
type disk struct {
	ephemeral             string // why its files do not stay, or empty
	freeBytes             uint64
	allInodes, freeInodes uint64 // allInodes is 0 where inodes are not counted
}

// checkState tries the state directory out, and leaves nothing behind.
func (e *examination) checkState(context.Context) []Finding {
	if e.StateDir == "" {
		return []Finding{failure("", "There is no directory to keep certificates, keys and the secret in.",
			"Name one with -state, or start under systemd with StateDirectory=inbox.")}
	}
	created, err := makeDir(e.StateDir)
	defer removeDirs(created)
	if err == nil {
		err = testDir(e.StateDir)
	}
	if err != nil {
		return []Finding{failure(e.StateDir, fmt.Sprintf("It cannot be used: %v.", err), fixForWrite(err))}
	}
	found := append(e.checkDisk(), checkDirMode(e.StateDir)...)
	if len(found) == 0 {
		return []Finding{good(e.StateDir, "It can be written to, and what it holds stays.")}
	}
	return found
}

// makeDir makes a directory and its parents, and returns those that were not
// there before, outermost first.
func makeDir(dir string) (created []string, err error) {
	// Of a disk that is missing, as there may be on Windows, not even the root is there.
	for missing := filepath.Clean(dir); !exists(missing) && missing != filepath.Dir(missing); missing = filepath.Dir(missing) {
		created = append([]string{missing}, created...)
	}
	return created, os.MkdirAll(dir, 0o700)
}

// removeDirs removes them as long as they are empty. The server makes them
// again, as the user that it runs as.
func removeDirs(created []string) {
	for i := len(created) - 1; i >= 0; i-- {
		os.Remove(created[i])
	}
}

// testDir does what is done to keep a certificate: write, sync, rename; then it
// reads the file back.
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
		err = errors.New("a file that was just written reads otherwise")
	}
	return err
}

// fixForWrite is what to do when a directory cannot be written to.
func fixForWrite(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "Give it to the user that the server runs as (chown), or name another directory with -state."
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "Free some space there, or name another directory with -state."
	case errors.Is(err, syscall.EROFS):
		return "It is read-only: mount it for writing, list it in ReadWritePaths= of the unit, or name another directory with -state."
	case errors.Is(err, syscall.ENOTDIR):
		return "A file is in its place: move the file away, or name another directory with -state."
	}
	return "Name another directory with -state."
}

// checkDirMode warns when other users can look into the directory.
func checkDirMode(dir string) []Finding {
	info, err := os.Stat(dir)
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return []Finding{warning(dir, fmt.Sprintf("Other users may enter it (mode %04o); it holds private keys.", info.Mode().Perm()), "chmod 700 "+dir)}
}

// checkDisk looks at what lies below the directory.
func (e *examination) checkDisk() []Finding {
	d, err := e.disk(e.StateDir)
	if err != nil {
		return []Finding{warning(e.StateDir, fmt.Sprintf("Its file system could not be asked: %v.", err),
			"See for yourself that there is space, and that files stay there over a restart.")}
	}
	var found []Finding
	if d.ephemeral != "" {
		found = append(found, warning(e.StateDir, "It "+d.ephemeral+", so certificates are lost at a restart; who orders them too often is locked out by the CA.",
			"Name a directory that stays with -state, like /var/lib/inbox; in a container, one on a volume."))
	}
	if d.freeBytes < minFreeBytes {
		found = append(found, warning(e.StateDir, fmt.Sprintf("Only %d MiB are free there.", d.freeBytes>>20), "Free some space."))
	}
	if d.allInodes > 0 && d.freeInodes < minFreeInodes {
		found = append(found, warning(e.StateDir, fmt.Sprintf("Only %d more files fit there (inodes).", d.freeInodes), "Remove small files that nobody needs."))
	}
	return found
}

// ephemeralPath says why files at a path go away, or nothing.
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
