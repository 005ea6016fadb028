//go:build unix

package privatefile

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func writeFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// chown gives a file to another user, and skips the test without the right to do so.
func chown(t *testing.T, path string, uid int) {
	t.Helper()
	if err := os.Lchown(path, uid, uid); err != nil {
		t.Skipf("requires root: %v", err)
	}
}

// TestOpenRefuses places what another user could place. A refused file is not changed.
func TestOpenRefuses(t *testing.T) {
	const reading, writing = os.O_RDONLY, os.O_RDWR | os.O_CREATE
	for _, row := range []struct {
		name  string
		place func(t *testing.T, path, victim string)
		flag  int
		want  string
	}{
		{"symbolic link", func(t *testing.T, path, victim string) { must(t, os.Symlink(victim, path)) }, reading, "symbolic link"},
		{"symbolic link to write to", func(t *testing.T, path, victim string) { must(t, os.Symlink(victim, path)) }, writing, "symbolic link"},
		{"dangling link", func(t *testing.T, path, victim string) { must(t, os.Symlink(victim+"-new", path)) }, writing, "symbolic link"},
		{"hard link to write to", func(t *testing.T, path, victim string) { must(t, os.Link(victim, path)) }, writing, "hard links"},
		{"pipe", func(t *testing.T, path, _ string) { must(t, syscall.Mkfifo(path, 0o600)) }, reading, "not a regular file"},
		{"pipe to write to", func(t *testing.T, path, _ string) { must(t, syscall.Mkfifo(path, 0o600)) }, writing, "not a regular file"},
		{"directory", func(t *testing.T, path, _ string) { must(t, os.Mkdir(path, 0o700)) }, reading, "not a regular file"},
		{"file of another user", func(t *testing.T, path, _ string) {
			writeFile(t, path, "planted", 0o644)
			chown(t, path, 4711)
		}, reading, "another user"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			path, victim := filepath.Join(dir, "secret"), filepath.Join(t.TempDir(), "victim")
			writeFile(t, victim, "precious", 0o600)
			row.place(t, path, victim)
			f, err := Open(path, row.flag)
			if err == nil {
				f.Close()
			}
			if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want ErrUnsafe with %q", err, row.want)
			}
			if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
				t.Errorf("the target of the link has %q (%v)", text, err)
			}
			if _, err := os.Lstat(victim + "-new"); err == nil {
				t.Error("the target of a dangling link was created")
			}
		})
	}
}

// TestOpenAccepts checks own files, files of root, and, for root, those of the owner of
// the directory.
func TestOpenAccepts(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	writeFile(t, path, "own", 0o600)
	if got, err := Read(path, 3); err != nil || string(got) != "own" {
		t.Errorf("got %q, %v; want own", got, err)
	}
	if got, err := Read(path, 2); err == nil {
		t.Errorf("above the limit: got %q, want an error", got)
	}
	if _, err := Open(filepath.Join(dir, "missing"), os.O_RDONLY); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: got %v, want ErrNotExist", err)
	}
	f, err := Open(filepath.Join(dir, "new"), os.O_CREATE|os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode() != 0o600 {
		t.Errorf("new file: got %v, %v; want mode 0600", info, err)
	}
	chown(t, dir, 4711)
	chown(t, path, 4711)
	if _, err := Read(path, 3); err != nil {
		t.Errorf("root, with a file of the directory's owner: got %v", err)
	}
}

func TestInspect(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	must(t, os.Chmod(dir, 0o777))
	must(t, os.Mkdir(filepath.Join(dir, "acme"), 0o700))
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	writeFile(t, filepath.Join(dir, "secret"), "x", 0o644)
	writeFile(t, filepath.Join(dir, "acme", "key"), "x", 0o620)
	writeFile(t, filepath.Join(dir, "acme", "private"), "x", 0o600)
	r := Inspect(dir)
	exposed := []string{filepath.Join(dir, "acme", "key"), filepath.Join(dir, "secret")}
	if !r.Writable || !slices.Equal(r.Exposed, exposed) || len(r.Unsafe) != 1 {
		t.Errorf("got %+v, want a writable directory, %q exposed, and the link unsafe", r, exposed)
	}
	link := filepath.Join(t.TempDir(), "state")
	must(t, os.Symlink(dir, link))
	if r := Inspect(link); !r.Writable || len(r.Exposed) != 2 || len(r.Unsafe) != 1 {
		t.Errorf("by a link to the directory: got %+v, want the same", r)
	}
	if r := Inspect(filepath.Join(dir, "missing")); r.Writable || r.Exposed != nil || r.Unsafe != nil {
		t.Errorf("missing directory: got %+v, want nothing", r)
	}
	chown(t, filepath.Join(dir, "acme"), 4711)
	if r := Inspect(dir); len(r.Unsafe) != 2 {
		t.Errorf("got %q, want the directory of another user to be unsafe too", r.Unsafe)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
