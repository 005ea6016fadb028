package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/server"
)

// asProgram is the variable that makes the test binary run as the program, so that a test
// can send it signals.
const asProgram = "TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	code := m.Run()
	if left := leakedGoroutines(5 * time.Second); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "leaked goroutines:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// leakedGoroutines returns the stacks of server goroutines that are still running after
// timeout.
func leakedGoroutines(timeout time.Duration) string {
	for deadline := time.Now().Add(timeout); ; runtime.Gosched() {
		left := serverGoroutines()
		if left == "" || time.Now().After(deadline) {
			return left
		}
	}
}

func serverGoroutines() string {
	buf := make([]byte, 1<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	return strings.Join(slices.DeleteFunc(all, func(stack string) bool {
		ours := strings.Contains(stack, "inbox/inbox.") || strings.Contains(stack, "inbox/tlsmgr.") ||
			strings.Contains(stack, "net/http.(*conn)") || strings.Contains(stack, "net/http.(*Server)") ||
			strings.Contains(stack, "internal/server.")
		return !ours
	}), "\n\n")
}

// output collects the program's output and reports when it listens.
type output struct {
	mu        sync.Mutex
	buf       bytes.Buffer
	listening chan string // receives the address
}

var listeningLine = regexp.MustCompile(`"?msg"?[=:]"?listening"? ?,?"?addr"?[=:]"?([^ "]+)`)

func newOutput() *output { return &output{listening: make(chan string, 1)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if m := listeningLine.FindSubmatch(p); m != nil {
		o.listening <- string(m[1])
	}
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// program is a run of the program within the test.
type program struct {
	t      *testing.T
	addr   string
	url    string
	log    *output
	client *http.Client
	cancel context.CancelFunc
	exit   chan int
}

// start runs the program on a free port, without a relay, and stops it when the test ends.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	timeouts := server.DefaultTimeouts()
	timeouts.Drain = 10 * time.Millisecond // clients are local
	return startWithTimeouts(t, timeouts, args...)
}

func startWithTimeouts(t *testing.T, timeouts server.Timeouts, args ...string) *program {
	t.Helper()
	args = append([]string{"-bind", "127.0.0.1:0", "-turn", "off", "-state", t.TempDir()}, args...)
	ctx, cancel := context.WithCancel(context.Background())
	p := &program{t: t, log: newOutput(), cancel: cancel, exit: make(chan int, 1)}
	go func() {
		p.exit <- run(ctx, process{args: args, stdout: io.Discard, stderr: p.log, timeouts: timeouts})
	}()
	select {
	case p.addr = <-p.log.listening:
	case code := <-p.exit:
		t.Fatalf("the program exited with %d:\n%s", code, p.log)
	case <-time.After(30 * time.Second):
		t.Fatalf("the program does not listen:\n%s", p.log)
	}
	p.url = "https://" + p.addr
	if slices.Contains(args, "-https=false") {
		p.url = "http://" + p.addr
	}
	p.client = newClient(t)
	t.Cleanup(func() { p.stop() })
	return p
}

// newClient returns a client that shares no connections.
func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// stop stops the program and returns its exit code. It can be called again.
func (p *program) stop() int {
	p.client.CloseIdleConnections()
	p.cancel()
	code := <-p.exit
	p.exit <- code
	return code
}

// response is a response with its complete body.
type response struct {
	status int
	header http.Header
	body   string
	proto  string
}

// request sends a request as user name, with a password derived from the name.
func (p *program) request(method, path, name, body string) response {
	p.t.Helper()
	a, err := p.tryRequest(method, path, name, body)
	if err != nil {
		p.t.Fatalf("%s %s: %v\n%s", method, path, err, p.log)
	}
	return a
}

func (p *program) tryRequest(method, path, name, body string) (response, error) {
	r, err := http.NewRequest(method, p.url+path, strings.NewReader(body))
	if err != nil {
		return response{}, err
	}
	if name != "" {
		r.SetBasicAuth(name, "password of "+name)
	}
	return p.send(r)
}

func (p *program) send(r *http.Request) (response, error) {
	resp, err := p.client.Do(r)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return response{resp.StatusCode, resp.Header, string(text), resp.Proto}, err
}

// want sends a request and fails the test on any other status.
func (p *program) want(status int, method, path, name, body string) response {
	p.t.Helper()
	a := p.request(method, path, name, body)
	if a.status != status {
		p.t.Fatalf("%s %s as %q: status %d (%s), want %d", method, path, name, a.status, a.body, status)
	}
	return a
}

// claim claims an inbox for the name without waiting for a message.
func (p *program) claim(name string) {
	p.t.Helper()
	p.want(http.StatusNoContent, "GET", "/inbox?wait=0", name, "")
}

// dial opens a TCP or TLS connection.
func (p *program) dial() net.Conn {
	p.t.Helper()
	var c net.Conn
	var err error
	if strings.HasPrefix(p.url, "https") {
		c, err = tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true})
	} else {
		c, err = net.Dial("tcp", p.addr)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

// runOnce runs the program until it exits, for command lines that do not serve.
func runOnce(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	code = run(ctx, process{args: args, environ: environ, stdout: &out, stderr: &errs, timeouts: server.DefaultTimeouts()})
	if ctx.Err() != nil {
		t.Fatalf("the program with %q did not exit:\n%s", args, errs.String())
	}
	return code, out.String(), errs.String()
}
