package server

import (
	"testing"
)

// TestDoctorUnreadableRootsTrustNothing checks that the system's roots do not replace roots
// that cannot be read.
func TestDoctorUnreadableRootsTrustNothing(t *testing.T) {
	if loadRoots(t.TempDir()+"/none.pem") == nil || loadRoots("") != nil {
		t.Error("unreadable file or empty path: want an empty pool and nil, respectively")
	}
}
