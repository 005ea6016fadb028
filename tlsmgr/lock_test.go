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
	want := func(when string, alone, any bool) {
		t.Helper()
		if isLockedExclusively(path) != alone || isLocked(path) != any {
			t.Errorf("%s: held alone: %v, by anybody: %v; want %v, %v", when, isLockedExclusively(path), isLocked(path), alone, any)
		}
	}
	lock := func(alone, wanted bool) func() {
		t.Helper()
		unlock, free, err := tryLockFile(path, alone)
		if err != nil || free != wanted {
			t.Fatalf("lock alone: %v: got %v, %v; want %v", alone, free, err, wanted)
		}
		return unlock
	}
	want("nothing there", false, false)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("looking made a file: %v", err)
	}
	one := lock(true, true)
	want("one alone", true, true)
	lock(true, false)
	lock(false, false)
	one()
	want("free again", false, false)
	one, two := lock(false, true), lock(false, true)
	want("two together", false, true)
	lock(true, false)
	one()
	want("one of two left", false, true)
	two()
	want("all left", false, false)
	lock(true, true)()
}
