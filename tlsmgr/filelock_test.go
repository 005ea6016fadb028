//go:build unix || windows

package tlsmgr

import (
	"os"
	"path/filepath"
	"testing"
)

// An exclusive lock excludes all others, and shared locks exclude only exclusive ones.
// Checking a lock creates no file.
func TestLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	wantState := func(when string, exclusive, any bool) {
		t.Helper()
		if isLockedExclusively(path) != exclusive || isLocked(path) != any {
			t.Errorf("%s: got locked exclusively %v, locked %v, want %v, %v", when, isLockedExclusively(path), isLocked(path), exclusive, any)
		}
	}
	tryLock := func(exclusive, wanted bool) func() {
		t.Helper()
		unlock, acquired, err := tryLockFile(path, exclusive)
		if err != nil || acquired != wanted {
			t.Fatalf("tryLockFile, exclusive %v: got %v, %v, want %v", exclusive, acquired, err, wanted)
		}
		return unlock
	}
	wantState("no file", false, false)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("checking the lock created a file: %v", err)
	}
	one := tryLock(true, true)
	wantState("one exclusive lock", true, true)
	tryLock(true, false)
	tryLock(false, false)
	one()
	wantState("exclusive lock released", false, false)
	one, two := tryLock(false, true), tryLock(false, true)
	wantState("two shared locks", false, true)
	tryLock(true, false)
	one()
	wantState("one shared lock released", false, true)
	two()
	wantState("all locks released", false, false)
	tryLock(true, true)()
}
