//go:build unix

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/sdnotify"
)

// requestCounts counts the outcomes of client requests.
type requestCounts struct{ answered, refused, broken atomic.Int64 }

// requestLoop sends requests, each on a new connection, until ctx is done.
func (n *requestCounts) requestLoop(ctx context.Context, network, address, url string) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	for ctx.Err() == nil {
		resp, err := client.Get(url)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
			n.refused.Add(1)
		case err != nil:
			n.broken.Add(1)
		default:
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			n.answered.Add(1)
		}
	}
}

// TestRestartsBehindPassedSockets checks that no connection is refused or broken during
// restarts, over TCP and Unix sockets: the sockets stay open, and connections queue in the
// kernel.
func TestRestartsBehindPassedSockets(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			address := "127.0.0.1:0"
			if network == "unix" {
				address = filepath.Join(t.TempDir(), "s")
			}
			m := newServiceManager(t)
			addr := m.passListener(sdnotify.HTTP, network, address)
			c := m.start("-https=false", "-conn-rate", "0", "-rate", "0", "-bind", "203.0.113.1:1")
			m.await("READY=1")

			var n requestCounts
			var clients sync.WaitGroup
			ctx, cancel := context.WithCancel(t.Context())
			for range 4 {
				clients.Go(func() { n.requestLoop(ctx, network, addr.String(), "http://inbox/healthz") })
			}
			const restarts = 5
			for range restarts {
				before := n.answered.Load()
				m.stop(c)
				c = m.start("-https=false", "-conn-rate", "0", "-rate", "0")
				m.await("READY=1")
				for n.answered.Load() < before+20 && n.broken.Load() == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			cancel()
			clients.Wait()
			t.Logf("%d restarts: %d answered, %d refused, %d broken", restarts, n.answered.Load(), n.refused.Load(), n.broken.Load())
			if n.refused.Load() > 0 || n.broken.Load() > 0 {
				t.Errorf("%d refused, %d broken; want none\n%s", n.refused.Load(), n.broken.Load(), c.log)
			}
			m.stop(c)
		})
	}
}

// TestPassedSocketsReplaceOptions checks that passed sockets replace -bind, -http-bind and
// -metrics-bind.
func TestPassedSocketsReplaceOptions(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	metrics := m.passListener(sdnotify.Metrics, "tcp", "127.0.0.1:0")
	plain := m.passListener(sdnotify.HTTP, "tcp", "127.0.0.1:0")
	secure := m.passListener(sdnotify.HTTPS, "tcp", "[::1]:0")
	c := m.start("-domain", "a.example", "-acme-agree", "-acme-ca", "https://127.0.0.1:1/", "-bind", "203.0.113.1:1")
	m.await("READY=1")
	for url, want := range map[string]int{
		"http://" + metrics.String() + "/metrics": http.StatusOK,
		"http://" + plain.String() + "/":          http.StatusMisdirectedRequest,
	} {
		resp, err := newClient(t).Get(url)
		if err != nil {
			t.Fatalf("%v\n%s", err, c.log)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s: status %d, want %d", url, resp.StatusCode, want)
		}
	}
	r, _ := http.NewRequest("GET", "http://"+plain.String()+"/x", nil)
	_, plainPort, _ := net.SplitHostPort(plain.String())
	r.Host = "a.example:" + plainPort
	client := newClient(t)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	_, port, _ := net.SplitHostPort(secure.String())
	if got, want := resp.Header.Get("Location"), "https://a.example:"+port+"/x"; got != want {
		t.Errorf("the http socket redirects to %q, want %q", got, want)
	}
	if !strings.Contains(c.log.String(), "-bind is ignored") {
		t.Errorf("the log does not say that -bind is ignored:\n%s", c.log)
	}
	m.stop(c)
}

// TestPassedHTTPSSocketAlone checks that an https socket suffices.
func TestPassedHTTPSSocketAlone(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	addr := m.passListener(sdnotify.HTTPS, "tcp", "127.0.0.1:0")
	c := m.start()
	m.await("READY=1")
	resp, err := newClient(t).Get("https://" + addr.String() + "/healthz")
	if err != nil {
		t.Fatalf("%v\n%s", err, c.log)
	}
	resp.Body.Close()
	m.stop(c)
}

// passNull passes a file that is not a socket.
func passNull(t *testing.T, m *serviceManager, name string) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	m.passFile(name, f)
}

// passUDP passes a socket for datagrams under the name.
func passUDP(t *testing.T, m *serviceManager, name string) *net.UDPAddr {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	m.passFile(name, f)
	return c.LocalAddr().(*net.UDPAddr)
}

// passConnection passes a listener, and a connection to it in place of another listener.
func passConnection(t *testing.T, m *serviceManager) {
	addr := m.passListener(sdnotify.HTTP, "tcp", "127.0.0.1:0")
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	m.passFile(sdnotify.HTTPS, f)
}

// TestInvalidPassedSockets checks that an unusable socket ends the program with code 1 and
// an error that says what to do.
func TestInvalidPassedSockets(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pass func(*testing.T, *serviceManager)
		args []string
		want string
	}{
		"no socket": {func(t *testing.T, m *serviceManager) { passNull(t, m, sdnotify.HTTPS) }, nil, "descriptor 3 (https) from the service manager is not a listening socket"},
		"UDP":       {func(t *testing.T, m *serviceManager) { passUDP(t, m, sdnotify.HTTPS) }, nil, "not a listening socket"},
		"no UDP":    {func(t *testing.T, m *serviceManager) { m.passListener(sdnotify.TURN, "tcp", "127.0.0.1:0") }, nil, "descriptor 3 (turn) from the service manager is not a UDP socket"},
		"a file":    {func(t *testing.T, m *serviceManager) { passNull(t, m, sdnotify.TURN) }, nil, "is not a UDP socket"},
		"two for UDP": {func(t *testing.T, m *serviceManager) {
			passUDP(t, m, sdnotify.TURN)
			passUDP(t, m, sdnotify.TURN)
		}, nil, "two sockets named turn: keep one ListenDatagram="},
		"a connection": {passConnection, nil, "descriptor 4 (https) from the service manager is not a listening socket"},
		"unknown name": {func(t *testing.T, m *serviceManager) { passNull(t, m, "web") }, nil, `a socket named "web": set FileDescriptorName= of its unit to https`},
		"two of a name": {func(t *testing.T, m *serviceManager) {
			m.passListener(sdnotify.HTTPS, "tcp", "127.0.0.1:0")
			m.passListener(sdnotify.HTTPS, "tcp", "127.0.0.1:0")
		}, nil, "two sockets named https"},
		"http alone with HTTPS": {func(t *testing.T, m *serviceManager) { m.passListener(sdnotify.HTTP, "tcp", "127.0.0.1:0") }, nil, "only a socket named http, but the server requires one named https"},
		"https without HTTPS":   {func(t *testing.T, m *serviceManager) { m.passListener(sdnotify.HTTPS, "tcp", "127.0.0.1:0") }, []string{"-https=false"}, "a socket named https, but -https=false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newServiceManager(t)
			test.pass(t, m)
			c := m.start(test.args...)
			c.cmd.Wait()
			if got := c.cmd.ProcessState.ExitCode(); got != exitFailure {
				t.Errorf("exit code %d, want 1", got)
			}
			var last string
			for line := range strings.Lines(c.log.String()) {
				last = line
			}
			if !strings.HasPrefix(last, "inbox: ") || !strings.Contains(last, test.want) {
				t.Errorf("got %q, want an error with %q", last, test.want)
			}
		})
	}
}

// TestPassedSocketsAreNotInherited checks that children inherit neither the environment
// variables nor the descriptors.
func TestPassedSocketsAreNotInherited(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("requires /proc/self/fd")
	}
	const inChild = "TEST_IN_CHILD"
	if os.Getenv(inChild) == "" {
		m := newServiceManager(t)
		m.passListener(sdnotify.HTTP, "tcp", "127.0.0.1:0")
		cmd := m.command(t.Context(), "-test.run=^"+t.Name()+"$")
		cmd.Env = append(cmd.Env, inChild+"=1", asProgram+"=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	sockets, err := sdnotify.TakeSockets(os.Getenv)
	if err != nil || sockets.Listeners[sdnotify.HTTP] == nil {
		t.Fatalf("got %v, %v; want a socket", sockets, err)
	}
	defer sockets.Close()
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if value, ok := os.LookupEnv(name); ok {
			t.Errorf("%s=%s is left in the environment", name, value)
		}
	}
	out, err := inheritedSockets()
	if err != nil || strings.Contains(out, "socket:") {
		t.Errorf("a child inherits:\n%s%v", out, err)
	}
}

// TestPassedUnixSocketIsNotRemoved checks that the path of a passed Unix socket remains for
// the next process.
func TestPassedUnixSocketIsNotRemoved(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	path := filepath.Join(t.TempDir(), "s")
	m.passListener(sdnotify.HTTP, "unix", path)
	c := m.start("-https=false")
	m.await("READY=1")
	m.stop(c)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("after shutdown: got %v, want the socket to exist", err)
	}
}

// TestPassedTURNSocket checks that a passed socket for datagrams serves STUN, also after a
// restart, and is closed with -turn off.
func TestPassedTURNSocket(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	m.passListener(sdnotify.HTTPS, "tcp", "127.0.0.1:0")
	addr := passUDP(t, m, sdnotify.TURN)
	for range 2 {
		c := m.start()
		m.await("READY=1")
		if !answersSTUN(t, addr, 30*time.Second) {
			t.Errorf("no answer on the passed socket:\n%s", c.log)
		}
		m.stop(c)
	}
	c := m.start("-turn", "off")
	m.await("READY=1")
	if !strings.Contains(c.log.String(), "the turn socket passed by systemd is not used") {
		t.Errorf("the log does not mention the socket:\n%s", c.log)
	}
	if answersSTUN(t, addr, 100*time.Millisecond) {
		t.Error("a server without a relay answers")
	}
	m.stop(c)
}
