//go:build unix || windows

package filelock

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A lock excludes other processes until its holder closes it or dies. The size
// of the file can be read and changed meanwhile.
func TestLockExcludesOtherProcesses(t *testing.T) {
	if os.Getenv("TEST_LOCK") != "" { // the other process
		if _, err := TryLock(os.Getenv("TEST_LOCK")); err != nil {
			os.Stdout.WriteString("no ")
			return
		}
		os.Stdout.WriteString("yes")
		io.Copy(io.Discard, os.Stdin)
		return
	}
	path := filepath.Join(t.TempDir(), "lock")
	lock, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Truncate(1); err != nil {
		t.Errorf("truncate the locked file: %v", err)
	}
	other := startLockProcess(t, path)
	if got := other.read(); got != "no " {
		t.Errorf("while the lock is held, another process got %q, want no", got)
	}
	lock.Close()
	other = startLockProcess(t, path)
	if got := other.read(); got != "yes" {
		t.Fatalf("after the lock was released, another process got %q, want yes", got)
	}
	if _, err := TryLock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("while another process holds the lock: got %v, want ErrLocked", err)
	}
	other.cmd.Process.Kill()
	other.cmd.Wait()
	if lock, err = TryLock(path); err != nil {
		t.Fatalf("after the other process died: %v", err)
	}
	if info, err := lock.Stat(); err != nil || info.Size() != 1 {
		t.Errorf("size after both locks: got %v, %v; want 1", info, err)
	}
	lock.Close()
}

// lockProcess runs the test in another process, which locks a file and waits.
type lockProcess struct {
	t   *testing.T
	cmd *exec.Cmd
	out io.Reader
}

func startLockProcess(t *testing.T, path string) lockProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestLockExcludesOtherProcesses$")
	cmd.Env = append(os.Environ(), "TEST_LOCK="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	return lockProcess{t, cmd, out}
}

func (l lockProcess) read() string {
	l.t.Helper()
	text := make([]byte, 3)
	if _, err := io.ReadFull(l.out, text); err != nil {
		l.t.Fatal(err)
	}
	return string(text)
}
