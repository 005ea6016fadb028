package doctor

import "testing"

// A disk that is not there is an error, and no search without an end.
func TestMakeDirOnAMissingDisk(t *testing.T) {
	if made, err := makeDir(`Q:\inbox\state`); err == nil {
		t.Errorf("made %q, want an error", made)
	}
}
