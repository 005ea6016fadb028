package main

import (
	"crypto/x509"
	"os"
	"os/exec"
	"testing"
)

// The roots are read once in a process, so this test runs itself in another
// one, whose system knows no authority.
func TestFallbackRoots(t *testing.T) {
	if os.Getenv("TEST_ROOTS") != "" {
		pool, err := x509.SystemCertPool()
		if err != nil || pool.Equal(x509.NewCertPool()) {
			t.Fatalf("no authority is trusted (%v)", err)
		}
		return
	}
	c := exec.Command(os.Args[0], "-test.run=^TestFallbackRoots$")
	c.Env = append(os.Environ(), "TEST_ROOTS=1", "SSL_CERT_FILE=/nonexistent", "SSL_CERT_DIR=/nonexistent")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
