package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// startTimeout is how long a program may take until it listens. A self-signed
// key is made within it, on a busy machine too.
const startTimeout = 20 * time.Second

// stopTimeout is more than the ten seconds that the server gives to posts.
const stopTimeout = 20 * time.Second

// Server is a program of this repository, or another mailbox server, that
// runs as a process of its own.
type Server struct {
	// Addr is where it listens, host and port.
	Addr string
	cmd  *exec.Cmd
}

// Build compiles the server into a directory and returns the program's path.
// The working directory must be inside of this module.
func Build(ctx context.Context, into string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "inbox").Output()
	if err != nil {
		return "", fmt.Errorf("find the server's source (run this inside of e2e): %w", err)
	}
	program := filepath.Join(into, "inbox")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/inbox")
	build.Dir = strings.TrimSpace(string(root))
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return program, nil
}

var listening = regexp.MustCompile(`msg=listening\b.*\baddr=(\S+)`)

// Start runs a program that logs msg=listening addr=HOST:PORT to its standard
// error, and returns once it did.
func Start(program string, args ...string) (*Server, error) {
	s := &Server{cmd: exec.Command(program, args...)}
	logs, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	found := make(chan string, 1)
	last := make(chan string, 1)
	go watch(logs, found, last)
	select {
	case s.Addr = <-found:
		return s, nil
	case line := <-last:
		return nil, errors.Join(fmt.Errorf("%s ended with: %s", filepath.Base(program), line), s.cmd.Wait())
	case <-time.After(startTimeout):
		return nil, errors.Join(fmt.Errorf("%s does not log that it listens", filepath.Base(program)), s.Stop())
	}
}

// watch reads a program's log to its end, for a full pipe would stop the
// program. It sends the first address that the log names, and the last line.
func watch(logs io.Reader, found, last chan<- string) {
	lines, line := bufio.NewScanner(logs), ""
	for sent := false; lines.Scan(); {
		line = lines.Text()
		if m := listening.FindStringSubmatch(line); m != nil && !sent {
			found <- m[1]
			sent = true
		}
	}
	_, _ = io.Copy(io.Discard, logs)
	last <- line
}

// StartCommand runs a program that logs nothing of the kind. Its arguments
// name the address where it will listen; it has started once it accepts there.
func StartCommand(addr, program string, args ...string) (*Server, error) {
	s := &Server{Addr: addr, cmd: exec.Command(program, args...)}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			return s, c.Close()
		}
	}
	return nil, errors.Join(fmt.Errorf("%s does not listen on %s", filepath.Base(program), addr), s.Stop())
}

// PID is the process, for those who measure it.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Stop asks the program to stop, as a service manager would, and waits until
// it has. Whoever does not stop within stopTimeout is killed.
func (s *Server) Stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(stopTimeout, func() { _ = s.cmd.Process.Kill() })
	defer kill.Stop()
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("stop %s: %w", filepath.Base(s.cmd.Path), err)
	}
	return nil
}

// Signal sends the program a signal.
func (s *Server) Signal(sig syscall.Signal) error { return s.cmd.Process.Signal(sig) }
