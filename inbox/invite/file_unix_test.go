//go:build unix

package invite

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"inbox/internal/filelock"
)

// TestFilesBelongToTheService checks that root leaves files that the user of the service can read
// and lock.
func TestFilesBelongToTheService(t *testing.T) {
	dir := t.TempDir()
	const service = 4711
	if err := os.Chown(dir, service, service); err != nil {
		t.Skipf("requires root: %v", err)
	}
	for range 2 { // the second time, the files exist
		if _, _, err := Add(t.Context(), NewFile(dir), "anna", time.Hour, time.Now()); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{FileName, LockName} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if s := info.Sys().(*syscall.Stat_t); s.Uid != service || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: got user %d and mode %v, want %d and 0600", name, s.Uid, info.Mode(), service)
			}
		}
	}
}

// TestReplacedLockIsNotFollowed checks that root changes the owner of the file that it has locked, and
// not that of a link which the user of the service has put in its place.
func TestReplacedLockIsNotFollowed(t *testing.T) {
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 4711, 4711); err != nil {
		t.Skipf("requires root: %v", err)
	}
	path := filepath.Join(dir, LockName)
	lock, err := filelock.TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := errors.Join(os.Remove(path), os.Symlink(victim, path), shareLock(lock)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(victim)
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; int(uid) != os.Getuid() {
		t.Errorf("the target of the link belongs to user %d now", uid)
	}
}

// TestPlantedFileIsRefused checks that a link in the state directory is not followed.
func TestPlantedFileIsRefused(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "elsewhere")
	if err := os.WriteFile(elsewhere, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(dir, FileName)); err != nil {
		t.Fatal(err)
	}
	if _, err := List(t.Context(), NewFile(dir)); err == nil {
		t.Error("the link was followed")
	}
	if _, _, err := Add(t.Context(), NewFile(dir), "anna", time.Hour, time.Now()); err == nil {
		t.Error("an invitation was added behind a link")
	}
}
