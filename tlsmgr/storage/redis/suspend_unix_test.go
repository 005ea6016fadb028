//go:build unix

package redis

import (
	"os/exec"
	"syscall"
	"testing"
)

// suspend stops the server process until the test ends, so that it does not respond.
func suspend(t *testing.T, server *exec.Cmd) {
	t.Helper()
	if err := server.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Signal(syscall.SIGCONT) })
}
