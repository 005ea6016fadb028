// Package soak runs the server for a while like a service manager: peers connect and
// disconnect over TLS, the server is restarted under load, and its resource use must
// not grow.
package soak

import (
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"

	"inbox/e2e"
)

// service is the server on one state directory and one address, across restarts. With a
// socket, that stays open between two processes, like that of a systemd socket unit, so
// that connections are queued rather than refused.
type service struct {
	program, state, addr string
	socket               *os.File // nil: the server binds the address itself
	process              *e2e.Server

	mu              sync.Mutex
	metricsAddr     string
	crashed         bool
	unexpectedLines []string // log lines that must not occur, up to five
}

// newService chooses a free address, and keeps a listening socket there if withSocket
// is set. The caller must start the service.
func newService(program, state string, withSocket bool) (*service, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	s := &service{program: program, state: state, addr: l.Addr().String()}
	if withSocket {
		s.socket, err = l.(*net.TCPListener).File() // a duplicate, which stays open
	}
	return s, err
}

// socketActivationScript sets the environment of socket activation: the socket is
// descriptor 3. LISTEN_PID must be the process ID, which is known only to the shell
// that execs the program.
const socketActivationScript = `export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=https; exec "$0" "$@"`

// start starts the server and waits until it listens.
func (s *service) start() error {
	args := []string{"-state", s.state, "-public", "", "-metrics-bind", "127.0.0.1:0", "-turn-bind", "127.0.0.1:0",
		"-rate", "1000", "-burst", "2000", "-conn-rate", "500"}
	var cmd *exec.Cmd
	if s.socket == nil {
		cmd = exec.Command(s.program, append(args, "-bind", s.addr)...)
	} else {
		cmd = exec.Command("/bin/sh", append([]string{"-c", socketActivationScript, s.program}, args...)...)
		cmd.ExtraFiles = []*os.File{s.socket}
	}
	process, err := e2e.StartWith(cmd, s.readLogLine)
	if err == nil {
		s.process = process
	}
	return err
}

var (
	metricsAddrPattern = regexp.MustCompile(`msg=metrics addr=(\S+)`)
	unexpectedPattern  = regexp.MustCompile(`^panic|^fatal error|level=(WARN|ERROR)|DATA RACE|^inbox: `)
)

func (s *service) readLogLine(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := metricsAddrPattern.FindStringSubmatch(line); m != nil {
		s.metricsAddr = m[1]
	}
	if s.crashed && strings.Contains(line, "did not save its mailboxes") {
		return // expected after a crash
	}
	if unexpectedPattern.MatchString(line) && len(s.unexpectedLines) < 5 {
		s.unexpectedLines = append(s.unexpectedLines, line)
	}
}

// unexpectedLog returns log lines that must not occur.
func (s *service) unexpectedLog() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.unexpectedLines, "\n")
}

// stop ends the process as a service manager does; the exit code must be 0.
func (s *service) stop() error { return s.process.Stop() }

// restart restarts the server and returns the time without a listening process.
func (s *service) restart() (time.Duration, error) {
	began := time.Now()
	if err := s.stop(); err != nil {
		return 0, err
	}
	return time.Since(began), s.start()
}

// crash sends SIGKILL.
func (s *service) crash() {
	s.mu.Lock()
	s.crashed = true
	s.mu.Unlock()
	_ = s.process.StopWithSignal(os.Kill) // always an error: the process was killed
}
