//go:build unix || windows

package filelock

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// An exclusive lock excludes every other lock; shared locks exclude an
// exclusive one only. Asking for the state creates no file.
func TestExclusiveAndShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	wantState := func(when string, exclusive, held bool) {
		t.Helper()
		if HeldExclusively(path) != exclusive || Held(path) != held {
			t.Errorf("%s: got exclusive %v, held %v; want %v, %v", when, HeldExclusively(path), Held(path), exclusive, held)
		}
	}
	mustLock := func(try func(string) (*os.File, error)) *os.File {
		t.Helper()
		f, err := try(path)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	wantLocked := func(try func(string) (*os.File, error)) {
		t.Helper()
		if _, err := try(path); !errors.Is(err, ErrLocked) {
			t.Fatalf("got %v, want ErrLocked", err)
		}
	}
	wantState("no file", false, false)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("asking for the state created a file: %v", err)
	}
	one := mustLock(TryLock)
	wantState("one exclusive lock", true, true)
	wantLocked(TryLock)
	wantLocked(TryShare)
	one.Close()
	wantState("released", false, false)
	one, two := mustLock(TryShare), mustLock(TryShare)
	wantState("two shared locks", false, true)
	wantLocked(TryLock)
	one.Close()
	wantState("one shared lock left", false, true)
	two.Close()
	wantState("both released", false, false)
	mustLock(TryLock).Close()
}
