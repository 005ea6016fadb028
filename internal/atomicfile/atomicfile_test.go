package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Write replaces the whole file: a reader that has it open reads the old content.
func TestWriteReplacesWholeFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := Write(path, []byte("fresh")); err != nil {
		t.Fatal(err)
	}
	if before, err := io.ReadAll(reader); err != nil || string(before) != "old" {
		t.Errorf("the open file reads %q, %v; want old", before, err)
	}
	wantOnlyFile(t, dir, "fresh")
}

// Create writes once and never replaces.
func TestCreateNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := Create(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: got %v, want fs.ErrExist", err)
	}
	wantOnlyFile(t, dir, "first")
}

// A failed write leaves no temporary file.
func TestWriteToMissingDirectory(t *testing.T) {
	if err := Write(filepath.Join(t.TempDir(), "none", "file"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

func TestReadLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(path, 5); err != nil || string(got) != "12345" {
		t.Errorf("at the limit: got %q, %v", got, err)
	}
	if got, err := Read(path, 4); err == nil || got != nil || !strings.Contains(err.Error(), "larger than 4 bytes") {
		t.Errorf("above the limit: got %q, %v; want an error", got, err)
	}
	if _, err := Read(path+"none", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: got %v", err)
	}
}

// wantOnlyFile checks that the directory holds one private file and nothing else.
func wantOnlyFile(t *testing.T, dir, want string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil || len(all) != 1 {
		t.Fatalf("got %d files, %v; want one", len(all), err)
	}
	info, err := all[0].Info()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, all[0].Name())); err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, want 0600", info.Mode())
	}
}
