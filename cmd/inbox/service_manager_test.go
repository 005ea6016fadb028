//go:build unix

package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serviceManager implements systemd's side of the protocol: it keeps sockets across
// restarts of the program and receives its notifications.
type serviceManager struct {
	t       *testing.T
	names   []string
	files   []*os.File
	environ []string
	notices *net.UnixConn
}

func newServiceManager(t *testing.T) *serviceManager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	notices, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { notices.Close() })
	return &serviceManager{t: t, notices: notices, environ: []string{"NOTIFY_SOCKET=" + path}}
}

// passListener opens a TCP or Unix socket to pass under the name.
func (m *serviceManager) passListener(name, network, address string) net.Addr {
	m.t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		m.t.Fatal(err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		m.t.Fatal(err)
	}
	l.Close()
	m.passFile(name, f)
	return l.Addr()
}

// passFile passes a file under the name.
func (m *serviceManager) passFile(name string, f *os.File) {
	m.t.Cleanup(func() { f.Close() })
	m.names, m.files = append(m.names, name), append(m.files, f)
}

// command returns the command by which systemd would start the program. A shell sets
// LISTEN_PID to its own process ID and then executes the program.
func (m *serviceManager) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0]}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Env = append(cmd.Env, m.environ...)
	if len(m.files) > 0 {
		cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(m.files)), "LISTEN_FDNAMES="+strings.Join(m.names, ":"))
		cmd.ExtraFiles = m.files
	}
	return cmd
}

// start runs the program until stop or the end of the test.
func (m *serviceManager) start(args ...string) *child {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	c := &child{&program{t: m.t, log: newOutput()}, m.command(ctx, append([]string{"-state", m.t.TempDir()}, args...)...)}
	c.cmd.Stderr = c.log
	if err := c.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { cancel(); c.cmd.Wait() })
	return c
}

// next returns the lines of the next notification, and fails the test on a timeout.
func (m *serviceManager) next(within time.Duration) []string {
	m.t.Helper()
	lines, ok := m.tryNext(within)
	if !ok {
		m.t.Fatalf("no notification within %v", within)
	}
	return lines
}

func (m *serviceManager) tryNext(within time.Duration) ([]string, bool) {
	m.notices.SetReadDeadline(time.Now().Add(within))
	buf := make([]byte, 4096)
	n, err := m.notices.Read(buf)
	return strings.Split(string(buf[:n]), "\n"), err == nil
}

// await returns the next notification whose first line is line, and skips others.
func (m *serviceManager) await(line string) []string {
	m.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if lines := m.next(time.Until(deadline)); lines[0] == line {
			return lines
		}
	}
	m.t.Fatalf("no notification %s", line)
	return nil
}

// stop stops the program as systemd does.
func (m *serviceManager) stop(c *child) {
	m.t.Helper()
	c.signal(syscall.SIGTERM)
	if err := c.cmd.Wait(); err != nil {
		m.t.Fatalf("the program exited with %v\n%s", err, c.log)
	}
}
