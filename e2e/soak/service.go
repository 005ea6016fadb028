// Package soak runs the server for a while as a service manager would: peers
// come and go over TLS, the server is restarted among them, and what it holds
// of the machine must not grow.
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

// service is the server on one state directory and one address, across
// restarts. The socket, if there is one, stays open between two processes, as that of a socket
// unit, so that connections wait instead of being refused.
type service struct {
	program, state, addr string
	socket               *os.File // nil: the server binds the address itself
	process              *e2e.Server

	mu              sync.Mutex
	metricsAddr     string
	crashed         bool
	unexpectedLines []string // the first few lines of the log that nobody should see
}

// newService chooses a free address, and holds a socket there if held. The first start is the caller's.
func newService(program, state string, withSocket bool) (*service, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	s := &service{program: program, state: state, addr: l.Addr().String()}
	if withSocket {
		s.socket, err = l.(*net.TCPListener).File() // a copy
	}
	return s, err
}

// socketActivationScript sets what tells a process that the socket is its descriptor 3. It has
// to know its own number, which only the shell that becomes it can tell.
const socketActivationScript = `export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=https; exec "$0" "$@"`

// start returns once the server listens.
func (s *service) start() error {
	args := []string{"-state", s.state, "-public", "", "-metrics-bind", "127.0.0.1:0",
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
		return // as it should
	}
	if unexpectedPattern.MatchString(line) && len(s.unexpectedLines) < 5 {
		s.unexpectedLines = append(s.unexpectedLines, line)
	}
}

// unexpectedLog returns what was logged and should not have been.
func (s *service) unexpectedLog() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.unexpectedLines, "\n")
}

// stop ends the process as a service manager does; it must end with 0.
func (s *service) stop() error { return s.process.Stop() }

// restart returns how long no process listened.
func (s *service) restart() (time.Duration, error) {
	began := time.Now()
	if err := s.stop(); err != nil {
		return 0, err
	}
	return time.Since(began), s.start()
}

// crash ends the process without a word.
func (s *service) crash() {
	s.mu.Lock()
	s.crashed = true
	s.mu.Unlock()
	_ = s.process.StopWithSignal(os.Kill) // it says that it was killed
}
