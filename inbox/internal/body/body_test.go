package body

import (
	"strings"
	"testing"
)

// TestBodiesTakeMemoryAsTheyArrive checks that the announced length does not
// determine the memory that a body takes, and that all of it is reserved.
func TestBodiesTakeMemoryAsTheyArrive(t *testing.T) {
	for _, row := range []struct {
		came      int
		announced int64
		taken     int64 // beyond InitialBytes
	}{
		{100, 1 << 20, 0},
		{InitialBytes + 1, 1 << 20, InitialBytes},
		{3 * InitialBytes, 1 << 20, 3 * InitialBytes},
		{3 * InitialBytes, -1, 3 * InitialBytes},
		{2*InitialBytes - 1, 2*InitialBytes - 1, InitialBytes},
		{5*InitialBytes + 1, 5*InitialBytes + 1, 4*InitialBytes + 2},
	} {
		var reserved int64
		body, err := read(strings.NewReader(strings.Repeat("x", row.came)), row.announced, func(n int64) error { reserved += n; return nil })
		if err != nil || len(body) != row.came || cap(body) != row.came {
			t.Errorf("%+v: got %d bytes in memory for %d and %v, want no spare capacity", row, len(body), cap(body), err)
		}
		if reserved != row.taken {
			t.Errorf("%+v: reserved %d bytes", row, reserved)
		}
	}
}
