//go:build unix

package storage

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// As root, chownLikeDir changes the owner only of files inside the state directory. It
// does not follow symbolic links that the service has created.
func TestChownStaysInStateDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("requires root to change the owner of files")
		}
		t.Skip("requires root to change the owner of files")
	}
	const serviceUID = 65534
	dir, outside := t.TempDir(), t.TempDir()
	inside := filepath.Join(dir, "acme", "schedule", "one.json")
	if err := os.MkdirAll(filepath.Dir(inside), 0o700); err != nil {
		t.Fatal(err)
	}
	mustWriteFile(t, inside, nil)
	mustWriteFile(t, filepath.Join(outside, "one.json"), nil)
	if err := os.Symlink(outside, filepath.Join(dir, "acme", "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, serviceUID, serviceUID); err != nil {
		t.Fatal(err)
	}
	chownLikeDir(dir, inside)
	chownLikeDir(dir, filepath.Join(dir, "acme", "link", "one.json"))
	chownLikeDir(dir, filepath.Join(outside, "one.json"))
	for path, want := range map[string]uint32{
		inside: serviceUID, filepath.Dir(inside): serviceUID, filepath.Join(dir, "acme"): serviceUID,
		outside: 0, filepath.Join(outside, "one.json"): 0,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Uid; got != want {
			t.Errorf("%s: got owner %d, want %d", path, got, want)
		}
	}
}
