package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/logging"
	"inbox/cmd/inbox/internal/sdnotify"
)

func TestMain(m *testing.M) {
	// The cache of a server that is built and never run.
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/caddyserver/certmagic.(*Cache).maintainAssets"),
		goleak.IgnoreAnyFunction("inbox/internal/netconn.(*poller).run"))
}

// resolve returns the configuration of a server on a free port, without a relay and with the
// default state directory below a temporary home directory.
func resolve(t *testing.T, args ...string) *config.Config {
	t.Helper()
	o, err := config.Parse(append([]string{"-bind", "127.0.0.1:0", "-turn", "off"}, args...), nil)
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	c, err := config.Resolve(o, config.Facts{Getenv: func(name string) string {
		if name == "HOME" {
			return home
		}
		return ""
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// testProcess returns an environment without variables.
func testProcess() Process {
	return Process{Getenv: func(string) string { return "" }, Stderr: io.Discard, Timeouts: DefaultTimeouts()}
}

// build builds a server that is not serving yet.
func build(t *testing.T, p Process, c *config.Config, wrapMain func(net.Listener) net.Listener) *server {
	t.Helper()
	log := logging.New(p.Stderr, logging.Options{Level: c.LogLevel, JSON: c.LogJSON})
	bound, err := bindAll(c, sdnotify.Sockets{}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bound.close)
	if wrapMain != nil {
		bound.main = wrapMain(bound.main)
	}
	s, err := newServer(c, p, bound, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

func newTestServer(t *testing.T, args ...string) *server {
	t.Helper()
	return build(t, testProcess(), resolve(t, append([]string{"-https=false"}, args...)...), nil)
}

// newDomainServer builds a server with -domain.
func newDomainServer(t *testing.T, args ...string) *server {
	t.Helper()
	return build(t, testProcess(), resolve(t, append([]string{
		"-domain", "a.example", "-acme-agree", "-acme-ca", "https://127.0.0.1:1/directory", "-http-bind", "127.0.0.1:0",
	}, args...)...), nil)
}

// shortTimeouts returns timeouts for tests that wait for their expiry.
func shortTimeouts() Timeouts {
	return Timeouts{Header: 200 * time.Millisecond, Body: 200 * time.Millisecond, Idle: 200 * time.Millisecond,
		Write: 5 * time.Second, Shutdown: 5 * time.Second, SaveStall: 20 * time.Second, Save: 20 * time.Second}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

var discardLog = slog.New(slog.DiscardHandler)

// serviceManager receives the notifications of the server.
type serviceManager struct {
	t       *testing.T
	path    string
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
	return &serviceManager{t, path, notices}
}

// process returns the environment of a service, with further variables as NAME=VALUE.
func (m *serviceManager) process(variables ...string) Process {
	p := testProcess()
	p.Getenv = func(name string) string {
		for _, v := range append(variables, "NOTIFY_SOCKET="+m.path) {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}
	return p
}

// next returns the lines of the next notification; false after the timeout.
func (m *serviceManager) next(within time.Duration) ([]string, bool) {
	m.notices.SetReadDeadline(time.Now().Add(within))
	buf := make([]byte, 4096)
	n, err := m.notices.Read(buf)
	return strings.Split(string(buf[:n]), "\n"), err == nil
}

// await skips notifications until one whose first line is line.
func (m *serviceManager) await(line string) {
	m.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if lines, ok := m.next(time.Until(deadline)); ok && lines[0] == line {
			return
		}
	}
	m.t.Fatalf("no notification %s", line)
}

// extensions returns the received notifications that extend the timeout.
func (m *serviceManager) extensions() (all []string) {
	for {
		lines, more := m.next(50 * time.Millisecond)
		if !more {
			return all
		}
		if strings.HasPrefix(lines[0], "EXTEND_TIMEOUT_USEC=") {
			all = append(all, lines[0])
		}
	}
}

// runInBackground runs the server until the test ends or stop is called.
func runInBackground(t *testing.T, s *server) (stop context.CancelFunc, ended <-chan error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx, nil) }()
	return cancel, done
}
