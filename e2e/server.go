package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// startTimeout bounds the time until a program listens, including the creation of a
// self-signed certificate on a busy machine.
const startTimeout = 20 * time.Second

// stopTimeout exceeds the server's own shutdown timeouts: ten seconds for POSTs, five
// for silent connections, plus a slow disk.
const stopTimeout = 40 * time.Second

// Server is a running process of this repository's program, or of another mailbox
// server.
type Server struct {
	// Addr is the host and port where it listens.
	Addr string

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has exited; then err is set
	err   error
}

// Build compiles the server into dir and returns the path of the program. The working
// directory must be inside this module. If E2E_SERVER names a program, Build copies it.
func Build(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "inbox")
	if built := os.Getenv("E2E_SERVER"); built != "" {
		return program, copyProgram(program, built)
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "inbox").Output()
	if err != nil {
		return "", fmt.Errorf("find the source of the server: %w; run this inside e2e", err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/inbox")
	build.Dir = strings.TrimSpace(string(root))
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return program, nil
}

// copyProgram copies a program. A test can change the owner and the mode of its copy.
func copyProgram(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("E2E_SERVER: %w", err)
	}
	return os.WriteFile(to, data, 0o755)
}

// Main implements TestMain: it builds the server, runs the tests of a package, removes
// the program and exits.
func Main(m interface{ Run() int }, program *string) {
	dir, err := os.MkdirTemp("", "inbox-e2e-")
	if err == nil {
		*program, err = Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// Start runs a program that logs msg=listening addr=HOST:PORT to standard error, and
// waits for that line.
func Start(program string, args ...string) (*Server, error) {
	return StartWith(exec.Command(program, args...), nil)
}

// StartWith is [Start] for a prepared command, such as one with extra files. onLine, if
// not nil, is called sequentially with each line of standard error. All calls have
// returned when the server is stopped.
func StartWith(cmd *exec.Cmd, onLine func(line string)) (*Server, error) {
	log := &logLines{onLine: onLine, addr: make(chan string, 1)}
	cmd.Stderr = log
	s, err := startProcess(cmd)
	if err != nil {
		return nil, err
	}
	select {
	case s.Addr = <-log.addr:
		return s, nil
	case <-s.ended:
		return nil, errors.Join(fmt.Errorf("%s exited; last log line: %s", s.name(), log.last), s.err)
	case <-time.After(startTimeout):
		return nil, errors.Join(fmt.Errorf("%s has not logged its address after %v", s.name(), startTimeout), s.Stop())
	}
}

// StartCommand runs a program that does not log its address. Its arguments must make it
// listen at addr; StartCommand waits until it accepts connections there.
func StartCommand(addr, program string, args ...string) (*Server, error) {
	s, err := startProcess(exec.Command(program, args...))
	if err != nil {
		return nil, err
	}
	s.Addr = addr
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			return s, c.Close()
		}
	}
	return nil, errors.Join(fmt.Errorf("%s does not listen on %s after %v", s.name(), addr, startTimeout), s.Stop())
}

func startProcess(cmd *exec.Cmd) (*Server, error) {
	s := &Server{cmd: cmd, ended: make(chan struct{})}
	cmd.WaitDelay = 10 * time.Second // in case a child process keeps the log open
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.name(), err)
	}
	go func() {
		s.err = cmd.Wait()
		close(s.ended)
	}()
	return s, nil
}

func (s *Server) name() string { return filepath.Base(s.cmd.Path) }

// PID returns the process ID, for measurements.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Stop sends SIGTERM, as a service manager does, and waits. It returns an error unless
// the program exits with code 0.
func (s *Server) Stop() error {
	if err := s.StopWithSignal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", s.name(), err)
	}
	return nil
}

// Signal sends a signal to the program.
func (s *Server) Signal(sig syscall.Signal) error { return s.cmd.Process.Signal(sig) }

// StopWithSignal sends a signal that ends the program and returns the result of
// [exec.Cmd.Wait]. The program is killed after stopTimeout.
func (s *Server) StopWithSignal(sig os.Signal) error {
	_ = s.cmd.Process.Signal(sig) // fails only if already exited; then see err
	killTimer := time.AfterFunc(stopTimeout, func() { _ = s.cmd.Process.Kill() })
	defer killTimer.Stop()
	<-s.ended
	return s.err
}

var listeningPattern = regexp.MustCompile(`msg=listening\b.*\baddr=(\S+)`)

// maxLine is longer than any log line of the server.
const maxLine = 64 << 10

// logLines splits a log into lines as it is written. It is used by one goroutine.
type logLines struct {
	onLine  func(line string)
	addr    chan string // receives the first address
	partial []byte      // incomplete line
	last    string
}

func (l *logLines) Write(p []byte) (int, error) {
	l.partial = append(l.partial, p...)
	for {
		line, rest, whole := bytes.Cut(l.partial, []byte("\n"))
		if !whole && len(line) < maxLine {
			return len(p), nil
		}
		l.handleLine(string(line))
		l.partial = rest
	}
}

func (l *logLines) handleLine(line string) {
	l.last = line
	if l.onLine != nil {
		l.onLine(line)
	}
	if m := listeningPattern.FindStringSubmatch(line); m != nil {
		select {
		case l.addr <- m[1]:
		default: // a second listener
		}
	}
}
