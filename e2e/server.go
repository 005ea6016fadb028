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

// startTimeout is how long a program may take until it listens. A self-signed
// key is made within it, on a busy machine too.
const startTimeout = 20 * time.Second

// stopTimeout is more than the server takes: ten seconds for posts, five for
// silent connections, and a slow disk.
const stopTimeout = 40 * time.Second

// Server is a program of this repository, or another mailbox server, that
// runs as a process of its own.
type Server struct {
	// Addr is where it listens, host and port.
	Addr string

	cmd   *exec.Cmd
	ended chan struct{} // closed when it has; then err says how
	err   error
}

// Build compiles the server into a directory and returns the program's path.
// The working directory must be inside of this module.
func Build(ctx context.Context, dir string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "inbox").Output()
	if err != nil {
		return "", fmt.Errorf("find the server's source (run this inside of e2e): %w", err)
	}
	program := filepath.Join(dir, "inbox")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/inbox")
	build.Dir = strings.TrimSpace(string(root))
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return program, nil
}

// Main builds the server, runs the tests of a package and ends the process:
// all that a TestMain has to do. The program is removed at the end.
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

// Start runs a program that logs msg=listening addr=HOST:PORT to its standard
// error, and returns once it did.
func Start(program string, args ...string) (*Server, error) {
	return StartWith(exec.Command(program, args...), nil)
}

// StartWith is [Start] for a command that was prepared otherwise, such as with
// files of its own. Each line of its standard error is handed to note, if it is not
// nil, one after the other; once the server was stopped, all of them were.
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
		return nil, errors.Join(fmt.Errorf("%s ended with: %s", s.name(), log.last), s.err)
	case <-time.After(startTimeout):
		return nil, errors.Join(fmt.Errorf("%s does not log that it listens", s.name()), s.Stop())
	}
}

// StartCommand runs a program that logs nothing of the kind. Its arguments
// name the address where it will listen; it has started once it accepts there.
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
	return nil, errors.Join(fmt.Errorf("%s does not listen on %s", s.name(), addr), s.Stop())
}

func startProcess(cmd *exec.Cmd) (*Server, error) {
	s := &Server{cmd: cmd, ended: make(chan struct{})}
	cmd.WaitDelay = 10 * time.Second // for a child that keeps the log open
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

// PID is the process, for those who measure it.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Stop asks the program to stop, as a service manager would, and waits until
// it has. It must end with exit code 0.
func (s *Server) Stop() error {
	if err := s.StopWithSignal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", s.name(), err)
	}
	return nil
}

// Signal sends the program a signal.
func (s *Server) Signal(sig syscall.Signal) error { return s.cmd.Process.Signal(sig) }

// StopWithSignal sends a signal that ends the program, and returns how it ended, as
// [exec.Cmd.Wait] tells it. Whoever does not end within stopTimeout is killed.
func (s *Server) StopWithSignal(sig os.Signal) error {
	_ = s.cmd.Process.Signal(sig) // gone already: err says how
	killTimer := time.AfterFunc(stopTimeout, func() { _ = s.cmd.Process.Kill() })
	defer killTimer.Stop()
	<-s.ended
	return s.err
}

var listeningPattern = regexp.MustCompile(`msg=listening\b.*\baddr=(\S+)`)

// maxLine is more than any line of a log has.
const maxLine = 64 << 10

// logLines reads a log as it is written, by one goroutine.
type logLines struct {
	onLine  func(line string)
	addr    chan string // gets the address of the first line that names one
	partial []byte      // of a line that is not whole
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
		default: // it listens twice
		}
	}
}
