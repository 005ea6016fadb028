// Package examples runs the programs of docs/examples with the real server, and with one another.
package examples

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"inbox/e2e"
)

const (
	directory = "../../docs/examples"
	python    = "/usr/bin/python3" // that of Debian's package python3-aiortc
	timeout   = 90 * time.Second
)

// program is the server, goPeer the example in Go.
var program, goPeer string

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "16") // the tests mostly wait
	dir, err := os.MkdirTemp("", "inbox-examples-")
	if err == nil {
		goPeer = filepath.Join(dir, "peer")
		var out []byte
		if out, err = exec.Command("go", "build", "-C", directory+"/go", "-o", goPeer, ".").CombinedOutput(); err != nil {
			err = fmt.Errorf("build the Go example: %w\n%s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	e2e.Main(runner{m, dir}, &program)
}

// runner removes the program after the tests.
type runner struct {
	*testing.M
	dir string
}

func (r runner) Run() int {
	defer os.RemoveAll(r.dir)
	return r.M.Run()
}

// site is a server that can be restarted at the same address.
type site struct {
	t      *testing.T
	args   []string
	addr   string
	server *e2e.Server
}

// newSite starts a server with a relay, over HTTPS with a self-signed certificate.
func newSite(t *testing.T, options ...string) *site {
	t.Helper()
	s := &site{t: t, addr: freeAddr(t, "tcp")}
	s.args = append([]string{"-bind", s.addr, "-public", "", "-state", t.TempDir(), "-turn", "127.0.0.1", "-turn-bind", freeAddr(t, "udp")}, options...)
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *site) start() {
	s.t.Helper()
	cmd := exec.Command(program, s.args...)
	cmd.Dir = s.t.TempDir() // without certificate files
	server, err := e2e.StartWith(cmd, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.server = server
}

func (s *site) stop() {
	if err := s.server.Stop(); err != nil {
		s.t.Error(err)
	}
}

func (s *site) url() string { return "https://" + s.addr }

func freeAddr(t *testing.T, network string) string {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.LocalAddr().String()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// needPython skips the test where Python or its packages are missing. With CI set, it fails.
func needPython(t *testing.T) {
	t.Helper()
	if out, err := exec.Command(python, "-c", "import aiortc, aiohttp").CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("python3-aiortc and python3-aiohttp (Debian): %v\n%s", err, out))
	}
}

// needAddress skips the test on a machine with loopback addresses only, as WebRTC uses others.
func needAddress(t *testing.T) {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		if network, ok := addr.(*net.IPNet); ok && network.IP.IsGlobalUnicast() {
			return
		}
	}
	missing(t, "an address other than that of the loopback interface")
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("missing: %s", what)
	}
	t.Skipf("missing: %s", what)
}

// TestCurl compares what the script prints.
func TestCurl(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		missing(t, "curl")
	}
	s := newSite(t)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", directory+"/curl/mailbox.sh", s.url()).CombinedOutput()
	if err != nil {
		t.Errorf("%v", err)
	}
	got := regexp.MustCompile(`alice-\d+`).ReplaceAllString(string(out), "alice")
	const want = `Bob received: hello Bob
Bob received again: hello Bob
Bob acknowledged: 204
Nobody: urn:inbox:problem:no-inbox
Bob streamed: {"from":"alice","type":"text","body":"one"}
Bob streamed: {"from":"alice","type":"text","body":"two"}
The stream ended: claim-ended
ICE servers: 2
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestCalls connects the examples: the peer in Go calls, and each kind of peer answers.
func TestCalls(t *testing.T) {
	for _, answerer := range []string{"go", "python"} {
		t.Run(answerer, func(t *testing.T) {
			t.Parallel()
			needAddress(t)
			if answerer == "python" {
				needPython(t)
			}
			t.Run("direct", func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.answer(answerer, "bob", "builder")
				caller := s.call("bob")
				caller.echo("hello")
				caller.echo("déjà vu")
				caller.end()
			})
			t.Run("relay", func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.answer(answerer, "bob", "builder")
				caller := s.call("bob", "-relay")
				caller.echo("over the relay")
				caller.end()
			})
			t.Run("restarts", func(t *testing.T) { t.Parallel(); restarts(t, answerer) })
			t.Run("limits", func(t *testing.T) {
				t.Parallel()
				s := newSite(t, "-rate", "5", "-burst", "1")
				s.answer(answerer, "bob", "builder")
				caller := s.call("bob")
				caller.await("urn:inbox:problem:rate-limited")
				caller.echo("slowly")
				caller.end()
			})
			t.Run("refusals", func(t *testing.T) { t.Parallel(); refusals(t, answerer) })
		})
	}
}

// restarts has a caller that is early, a server that restarts, and a callee that is replaced.
func restarts(t *testing.T, answerer string) {
	s := newSite(t)
	caller := s.call("bob")
	s.stop()
	s.start()
	first := s.answer(answerer, "bob", "builder")
	caller.echo("one")
	s.stop()
	s.start()
	caller.echo("two") // the call needs no server
	first.kill()
	s.answer(answerer, "bob", "builder")
	caller.awaitTimes("connected to bob", 2) // a line that is sent before is lost
	caller.echo("three")
	caller.end()
}

// refusals checks that a peer ends when the server refuses it for good.
func refusals(t *testing.T, answerer string) {
	s := newSite(t)
	first := s.answer(answerer, "bob", "builder")
	caller := s.call("bob")
	caller.echo("here")
	caller.end()
	s.answer(answerer, "bob", "wrong").await("urn:inbox:problem:unauthorized")
	s.answer(answerer, "bob", "builder") // takes over
	first.await("superseded")
}

// TestExampleModule checks that the example uses the versions that the tests download anyway.
func TestExampleModule(t *testing.T) {
	tests, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile(directory + "/go/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\S+\.\S+/\S+ v\S+`).FindAllString(string(example), -1) {
		if !strings.Contains(string(tests), m) {
			t.Errorf("docs/examples/go/go.mod has %s, e2e/go.mod has not", m)
		}
	}
}
