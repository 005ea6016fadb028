package doctor

import "testing"

// A missing drive is an error and ends the search for parents.
func TestMakeDirOnAMissingDisk(t *testing.T) {
	if made, err := makeDir(`Q:\inbox\state`); err == nil {
		t.Errorf("created %q, want an error", made)
	}
}
