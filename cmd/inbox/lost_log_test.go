//go:build unix

package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/snapshot"
)

// logPipe is a program whose standard output and standard error go to one pipe.
type logPipe struct {
	*child
	reader *os.File
	dir    string
}

// startWithLogPipe runs the program until it listens. The shell command runs it as "$@".
func startWithLogPipe(t *testing.T, shell string) *logPipe {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cmd := exec.CommandContext(ctx, "sh", "-c", shell, "sh", os.Args[0], "-bind", "127.0.0.1:0", "-state", dir,
		"-https=false", "-log-level", "debug")
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), asProgram+"=1"), w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{&program{t: t, log: newOutput(), client: newClient(t)}, cmd}
	t.Cleanup(func() { cancel(); r.Close(); cmd.Wait() })
	buf := make([]byte, 4096)
	for c.addr == "" {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatalf("the program does not listen (%v):\n%s", err, c.log)
		}
		c.log.Write(buf[:n])
		select {
		case c.addr = <-c.log.listening:
		default:
		}
	}
	c.url = "http://" + c.addr
	return &logPipe{c, r, dir}
}

// TestServesWithoutLogReader checks that a server whose log has no reader, or one that
// stopped reading, keeps serving, saves the mailboxes and exits with 0. Each request logs
// a line.
func TestServesWithoutLogReader(t *testing.T) {
	t.Parallel()
	closeReader := func(p *logPipe) { p.reader.Close() }
	for name, test := range map[string]struct {
		shell string
		lose  func(*logPipe)
	}{
		"reader gone":                     {`exec "$@"`, closeReader},
		"reader gone and SIGPIPE ignored": {`trap "" PIPE; exec "$@"`, closeReader},
		"reader stopped":                  {`exec "$@"`, (*logPipe).fill},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startWithLogPipe(t, test.shell)
			p.claim("alice")
			test.lose(p)
			for range 3 {
				p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", "hello")
			}
			p.signal(syscall.SIGTERM)
			if err := p.cmd.Wait(); err != nil {
				t.Errorf("the program ended with %v, want exit code 0", err)
			}
			if _, err := os.Stat(filepath.Join(p.dir, snapshot.FileName)); err != nil {
				t.Errorf("the mailboxes were not saved: %v", err)
			}
		})
	}
}

// fill makes the program log until the pipe is full. A line has more than 64 bytes, and a
// pipe holds 64 KiB unless it was enlarged.
func (p *logPipe) fill() {
	for range 64<<10/64 + 1 {
		p.want(http.StatusOK, "GET", "/healthz", "", "")
	}
}

// TestFailedStartWithoutLogReader checks the exit code when the error cannot be written.
func TestFailedStartWithoutLogReader(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-no-such-option")
	cmd.Env, cmd.Stderr = append(os.Environ(), asProgram+"=1"), w
	if cmd.Run(); cmd.ProcessState.ExitCode() != exitUsage {
		t.Errorf("got %v, want exit code %d", cmd.ProcessState, exitUsage)
	}
}
