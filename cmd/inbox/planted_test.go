//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inbox/cmd/inbox/internal/snapshot"
)

// newOpenStateDir returns a state directory that all users can write to.
func newOpenStateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPlantedSecretIsRefused checks that the server does not start with a secret that
// another user can have placed in its state directory, or with a directory of its own that
// leads elsewhere.
func TestPlantedSecretIsRefused(t *testing.T) {
	elsewhere := t.TempDir()
	known := filepath.Join(elsewhere, "known")
	writeFile(t, known, strings.Repeat("x", 32))
	for name, plant := range map[string]func(dir string) error{
		"a symbolic link": func(dir string) error { return os.Symlink(known, filepath.Join(dir, "secret")) },
		"a directory":     func(dir string) error { return os.Mkdir(filepath.Join(dir, "secret"), 0o700) },
		"a linked directory": func(dir string) error {
			return os.Symlink(elsewhere, filepath.Join(dir, "acme"))
		},
		"a file of another user": func(dir string) error {
			path := filepath.Join(dir, "secret")
			writeFile(t, path, strings.Repeat("x", 32))
			return os.Chown(path, 4711, 4711)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newOpenStateDir(t)
			if err := plant(dir); err != nil {
				t.Skip(err)
			}
			code, _, stderr := runOnce(t, nil, "-https=false", "-bind", "127.0.0.1:0", "-state", dir)
			if code != exitFailure || !strings.Contains(stderr, "refusing the file "+dir) {
				t.Errorf("got exit code %d, want 1 and the file:\n%s", code, stderr)
			}
			code, stdout, _ := runOnce(t, nil, "doctor", "-https=false", "-bind", "127.0.0.1:0", "-state", dir)
			if words := strings.Join(strings.Fields(stdout), " "); code != exitFailure || !strings.Contains(words, "refusing the file "+dir) {
				t.Errorf("doctor: got exit code %d, want 1 and the file:\n%s", code, stdout)
			}
		})
	}
}

// TestPlantedLockIsRefused checks that the target of a link in place of the lock file keeps
// its content, and that the server runs without saving mailboxes.
func TestPlantedLockIsRefused(t *testing.T) {
	for name, link := range map[string]func(from, to string) error{"symbolic link": os.Symlink, "hard link": os.Link} {
		t.Run(name, func(t *testing.T) {
			dir, victim := newOpenStateDir(t), filepath.Join(t.TempDir(), "victim")
			writeFile(t, victim, "precious")
			if err := link(victim, filepath.Join(dir, snapshot.FileName+".lock")); err != nil {
				t.Fatal(err)
			}
			p := startIn(t, dir)
			p.claim("alice")
			p.mustStop()
			p.wantLog("a restart will lose all mailboxes")
			p.wantLog(strings.ReplaceAll(name, "hard link", "hard links"))
			if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
				t.Errorf("the target of the link has %q (%v), want its content", text, err)
			}
		})
	}
}

// TestPlantedSnapshotIsNotRead checks that a link in place of the snapshot is quarantined.
func TestPlantedSnapshotIsNotRead(t *testing.T) {
	dir, saved := newOpenStateDir(t), newOpenStateDir(t)
	p := startIn(t, saved)
	p.claim("alice")
	p.mustStop()
	secret, err := os.ReadFile(filepath.Join(saved, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "secret"), string(secret)) // the link would be valid
	if err := os.Symlink(filepath.Join(saved, snapshot.FileName), filepath.Join(dir, snapshot.FileName)); err != nil {
		t.Fatal(err)
	}
	p = startIn(t, dir)
	p.wantLog("cannot read the saved mailboxes")
	p.mustStop()
	if info, err := os.Lstat(filepath.Join(saved, snapshot.FileName)); err != nil || info.Size() == 0 {
		t.Errorf("the target of the link: got %v, %v; want it unchanged", info, err)
	}
}

// TestExposedStateIsLogged checks the warnings of permissions.
func TestExposedStateIsLogged(t *testing.T) {
	dir := newOpenStateDir(t)
	path := filepath.Join(dir, "secret")
	writeFile(t, path, strings.Repeat("x", 32))
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	p := startIn(t, dir)
	p.wantLog("other users can write to the state directory")
	p.wantLog(`msg="other users can read or write files in the state directory" file=` + path + " count=1")
}
