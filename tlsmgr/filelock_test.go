//go:build unix || windows

package tlsmgr

import (
	"os"
	"path/filepath"
	"testing"
)

// Whoever locks alone keeps everybody out; others share. Looking makes no file.
func TestLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	wantState := func(when string, exclusive, any bool) {
		t.Helper()
		if isLockedExclusively(path) != exclusive || isLocked(path) != any {
			t.Errorf("%s: held alone: %v, by anybody: %v; want %v, %v", when, isLockedExclusively(path), isLocked(path), exclusive, any)
		}
	}
	tryLock := func(exclusive, wanted bool) func() {
		t.Helper()
		unlock, free, err := tryLockFile(path, exclusive)
		if err != nil || free != wanted {
			t.Fatalf("lock alone: %v: got %v, %v; want %v", exclusive, free, err, wanted)
		}
		return unlock
	}
	wantState("nothing there", false, false)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("looking made a file: %v", err)
	}
	one := tryLock(true, true)
	wantState("one alone", true, true)
	tryLock(true, false)
	tryLock(false, false)
	one()
	wantState("free again", false, false)
	one, two := tryLock(false, true), tryLock(false, true)
	wantState("two together", false, true)
	tryLock(true, false)
	one()
	wantState("one of two left", false, true)
	two()
	wantState("all left", false, false)
	tryLock(true, true)()
}
