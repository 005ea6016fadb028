package main

import (
	"crypto/x509"
	"os"
	"os/exec"
	"testing"
)

// TestFallbackRoots runs itself in a process whose system has no root certificates, as a
// process reads the roots only once.
func TestFallbackRoots(t *testing.T) {
	if os.Getenv("TEST_ROOTS") != "" {
		pool, err := x509.SystemCertPool()
		if err != nil || pool.Equal(x509.NewCertPool()) {
			t.Fatalf("no root certificates (%v)", err)
		}
		return
	}
	c := exec.Command(os.Args[0], "-test.run=^TestFallbackRoots$")
	c.Env = append(os.Environ(), "TEST_ROOTS=1", "SSL_CERT_FILE=/nonexistent", "SSL_CERT_DIR=/nonexistent")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
