package storage

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func newTestDirectory(t *testing.T) *Directory {
	return NewDirectory(filepath.Join(t.TempDir(), "storage"), slog.New(slog.DiscardHandler))
}

func TestDirectoryValues(t *testing.T) {
	d, ctx := newTestDirectory(t), t.Context()
	if _, err := d.Load(ctx, "a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("load a missing value: got %v, want fs.ErrNotExist", err)
	}
	if keys, err := d.List(ctx, "a"); err != nil || len(keys) != 0 {
		t.Errorf("list nothing: got %v, %v", keys, err)
	}
	for _, key := range []string{"a/b/c", "a/b/d", "a/e", "ab"} {
		if err := d.Store(ctx, key, []byte("value of "+key)); err != nil {
			t.Fatal(err)
		}
	}
	if value, err := d.Load(ctx, "a/b/c"); err != nil || string(value) != "value of a/b/c" {
		t.Errorf("load: got %q, %v", value, err)
	}
	keys, err := d.List(ctx, "a")
	if want := []string{"a/b/c", "a/b/d", "a/e"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("list: got %v, %v, want %v", keys, err, want)
	}
	if err := errors.Join(d.Delete(ctx, "a/b"), d.Delete(ctx, "a/b")); err != nil {
		t.Errorf("delete a path, then nothing: %v", err)
	}
	for key, want := range map[string]bool{"a/b/c": false, "a/e": true, "ab": true} {
		if _, err := d.Load(ctx, key); (err == nil) != want {
			t.Errorf("load %s: got %v, want a value: %v", key, err, want)
		}
	}
}

// Without a path, nothing is read or written, also not in the working directory.
func TestNoDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	d, ctx := NewDirectory("", slog.New(slog.DiscardHandler)), t.Context()
	_, loadErr := d.Load(ctx, "a")
	_, listErr := d.List(ctx, "a")
	_, lockErr := d.TryLock(ctx, "a")
	_, lockedErr := d.IsLocked(ctx, "a")
	d.MarkInUse()()
	for _, err := range []error{loadErr, listErr, lockErr, lockedErr, d.Store(ctx, "a", nil), d.Delete(ctx, "a"), d.Quarantine(ctx, "a")} {
		if !errors.Is(err, ErrNoDirectory) {
			t.Errorf("got %v, want %v", err, ErrNoDirectory)
		}
	}
	if files, err := os.ReadDir("."); err != nil || len(files) != 0 || d.InUse() {
		t.Errorf("got files %v, %v, in use %v; want none", files, err, d.InUse())
	}
}

// Keys do not lead out of the directory.
func TestDirectoryRejectsForeignKeys(t *testing.T) {
	d, ctx := newTestDirectory(t), t.Context()
	for _, key := range []string{"", "..", "../a", "a/../../b", "/etc/passwd"} {
		_, loadErr := d.Load(ctx, key)
		_, lockErr := d.TryLock(ctx, key)
		for _, err := range []error{loadErr, lockErr, d.Store(ctx, key, nil), d.Delete(ctx, key), d.Quarantine(ctx, key)} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%q: got %v, want fs.ErrInvalid", key, err)
			}
		}
	}
}

func TestDirectoryLocks(t *testing.T) {
	d, ctx := newTestDirectory(t), t.Context()
	locked := func() bool {
		locked, err := d.IsLocked(ctx, "a/lock")
		if err != nil {
			t.Error(err)
		}
		return locked
	}
	if locked() {
		t.Error("got locked before TryLock")
	}
	l, err := d.TryLock(ctx, "a/lock")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.TryLock(ctx, "a/lock"); !errors.Is(err, ErrLocked) || !locked() {
		t.Errorf("while it is held: got %v, locked %v, want ErrLocked and true", err, locked())
	}
	if err := l.Store(ctx, "a/b", []byte("x")); err != nil || l.Err() != nil {
		t.Errorf("store under the lease: got %v, %v", err, l.Err())
	}
	l.Release()
	if locked() {
		t.Error("got locked after Release")
	}
}

// A quarantined value is not loaded, and its file is kept.
func TestDirectoryQuarantine(t *testing.T) {
	d, ctx := newTestDirectory(t), t.Context()
	if err := errors.Join(d.Store(ctx, "a/b", []byte("x")), d.Quarantine(ctx, "a/b"), d.Quarantine(ctx, "a/b")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Load(ctx, "a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load: got %v, want fs.ErrNotExist", err)
	}
	entries, err := os.ReadDir(filepath.Join(d.dir, "a"))
	if err != nil || len(entries) != 1 || !strings.HasPrefix(entries[0].Name(), "b.damaged-") {
		t.Errorf("got files %v, %v, want the damaged one", entries, err)
	}
}

// A buffered storage under a lost lease keeps no values for later.
func TestBufferedUnderLostLease(t *testing.T) {
	b := NewBuffered(newTestDirectory(t), slog.New(slog.DiscardHandler)).Under(lostLease{Lease: directoryLease{newTestDirectory(t), nil}})
	if err := b.Store(t.Context(), "a", nil); !errors.Is(err, ErrLeaseLost) || len(b.pending.values) != 0 {
		t.Errorf("got %v, %d pending values, want ErrLeaseLost and none", err, len(b.pending.values))
	}
}

func TestElement(t *testing.T) {
	for text, want := range map[string]string{"One.example": "one.example", "2001:db8::1": "2001-db8--1", "../a/b": "ab", "127.0.0.1:14000-dir": "127.0.0.1-14000-dir", "a*b": "ab"} {
		if got := Element(text); got != want {
			t.Errorf("Element(%q) = %q, want %q", text, got, want)
		}
	}
}
