package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/server"
	"inbox/cmd/inbox/internal/snapshot"
)

// child is the program in a separate process, to which signals can be sent.
type child struct {
	*program
	cmd *exec.Cmd
}

func startChild(t *testing.T, args ...string) *child {
	t.Helper()
	c := startProcess(t, args...)
	select {
	case c.addr = <-c.log.listening:
	case <-time.After(time.Minute):
		t.Fatalf("the program does not listen:\n%s", c.log)
	}
	c.url, c.client = "http://"+c.addr, newClient(t)
	return c
}

// startProcess is like startChild, but does not wait until the program listens.
func startProcess(t *testing.T, args ...string) *child {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	args = append([]string{"-bind", "127.0.0.1:0", "-state", t.TempDir(), "-https=false"}, args...)
	c := &child{&program{t: t, log: newOutput()}, exec.CommandContext(ctx, os.Args[0], args...)}
	c.cmd.Env = append(os.Environ(), asProgram+"=1")
	c.cmd.Stderr = c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); c.cmd.Wait() })
	return c
}

func (c *child) signal(s os.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// rawRequest is a request on a separate connection.
type rawRequest struct {
	net.Conn
	r *bufio.Reader
}

func (c *child) open(text string) rawRequest {
	c.t.Helper()
	conn := c.dial()
	if _, err := io.WriteString(conn, text); err != nil {
		c.t.Fatal(err)
	}
	return rawRequest{conn, bufio.NewReader(conn)}
}

// slowPost sends a post without its body and returns once the server waits for the body.
func (c *child) slowPost(to, from string) rawRequest {
	c.t.Helper()
	r := c.open("POST /inbox?to=" + to + " HTTP/1.1\r\nHost: x\r\n" + basicAuthHeader(from) +
		"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	if line, err := r.r.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		c.t.Fatalf("the server does not wait for the body: %q, %v", line, err)
	}
	r.r.ReadString('\n') // the empty line
	return r
}

func (r rawRequest) answer(t *testing.T) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(r.r, nil)
	if err != nil {
		t.Fatalf("no response: %v", err)
	}
	resp.Body.Close()
	return resp
}

// TestSignalShutsDownGracefully checks that a signal ends polls with 204 at once, that an
// in-flight post finishes, and that the exit code is 0.
func TestSignalShutsDownGracefully(t *testing.T) {
	t.Parallel()
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		c := startChild(t)
		polls := c.startWaitingPoll("alice")
		post := c.slowPost("alice", "bob")
		began := time.Now()
		c.signal(s)
		answer := <-polls
		if answer.StatusCode != http.StatusNoContent || answer.Header.Get("Retry-After") == "" {
			t.Errorf("%v: poll: got %d and Retry-After %q, want 204 and a value",
				s, answer.StatusCode, answer.Header.Get("Retry-After"))
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%v: the poll ended after %v, want at once", s, took)
		}
		io.WriteString(post, "hello")
		if got := post.answer(t).StatusCode; got != http.StatusOK {
			t.Errorf("%v: in-flight post: got %d, want 200", s, got)
		}
		if err := c.cmd.Wait(); err != nil {
			t.Errorf("%v: the program exited with %v, want exit code 0\n%s", s, err, c.log)
		}
		if _, err := net.Dial("tcp", c.addr); err == nil {
			t.Errorf("%v: the port is still open", s)
		}
	}
}

// TestPollsDuringShutdownGetRetryAfter checks a poll that arrives on an open connection
// while the server stops.
func TestPollsDuringShutdownGetRetryAfter(t *testing.T) {
	t.Parallel()
	c := startChild(t)
	waiting := c.startWaitingPoll("alice")
	late := c.open("")
	post := c.slowPost("alice", "bob") // delays the shutdown; late was accepted before it
	c.signal(syscall.SIGTERM)
	<-waiting
	io.WriteString(late, "GET /inbox HTTP/1.1\r\nHost: x\r\n"+basicAuthHeader("alice")+"\r\n")
	answer := late.answer(t)
	if answer.StatusCode != http.StatusNoContent || answer.Header.Get("Retry-After") == "" {
		t.Errorf("got %d and Retry-After %q, want 204 and a value", answer.StatusCode, answer.Header.Get("Retry-After"))
	}
	io.WriteString(post, "hello")
	post.answer(t)
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("the program exited with %v, want exit code 0\n%s", err, c.log)
	}
}

// TestIdleConnectionsDoNotDelayShutdown checks connections without a request, which
// browsers open in advance.
func TestIdleConnectionsDoNotDelayShutdown(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"-https=false", "-https=true"} {
		c := startChild(t, scheme)
		for range 20 {
			conn, err := net.Dial("tcp", c.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		if scheme == "-https=true" { // also connections after the handshake
			for _, protocol := range []string{"h2", "http/1.1"} {
				conn, err := tls.Dial("tcp", c.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			}
		} else {
			c.claim("alice") // the server has accepted all earlier connections
		}
		began := time.Now()
		c.signal(syscall.SIGTERM)
		if err := c.cmd.Wait(); err != nil {
			t.Errorf("%s: the program exited with %v\n%s", scheme, err, c.log)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s: shutdown took %v, want about the drain time of half a second", scheme, took)
		}
	}
}

// startWaitingPoll returns once a poll of the name waits, that is, once it has superseded
// another poll. The channel receives the response to the waiting poll.
func (c *child) startWaitingPoll(name string) <-chan *http.Response {
	c.t.Helper()
	answers := make(chan *http.Response, 2)
	for range 2 {
		poll := c.open("GET /inbox HTTP/1.1\r\nHost: x\r\n" + basicAuthHeader(name) + "\r\n")
		go func() {
			resp, err := http.ReadResponse(poll.r, nil)
			if err != nil {
				c.t.Errorf("no response to a poll: %v", err)
				resp = new(http.Response)
			}
			answers <- resp
		}()
	}
	if ended := <-answers; ended.Header.Get("X-Poll-Ended") != "superseded" {
		c.t.Fatalf("neither of two polls was superseded: status %d", ended.StatusCode)
	}
	return answers
}

// TestSecondSignalSaves checks that a second signal within signalDebounce has no effect. A
// later one aborts in-flight posts; accepted messages are saved in both cases.
func TestSecondSignalSaves(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		after time.Duration
		want  bool // whether the in-flight post finishes
	}{
		{"at the same time", 10 * time.Millisecond, true},
		{"later", signalDebounce + 100*time.Millisecond, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c := startChild(t, "-state", dir)
			c.claim("alice")
			c.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", "hello")
			post := c.slowPost("alice", "bob")
			began := time.Now()
			c.signal(syscall.SIGTERM)
			time.Sleep(test.after)
			c.signal(syscall.SIGTERM)
			if test.want {
				io.WriteString(post, "hello")
				post.answer(t)
			}
			if err := c.cmd.Wait(); err != nil {
				t.Errorf("the program exited with %v, want exit code 0\n%s", err, c.log)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("the program exited after %v, want less than the post timeout of ten seconds", took)
			}
			want := map[bool]string{true: "inboxes=2 messages=2", false: "inboxes=2 messages=1"}[test.want]
			c.wantLog(`msg="mailboxes saved" ` + want)
			wantMode(t, dir, snapshot.FileName, 0o600)
		})
	}
}

// TestWaitingStartCanBeStopped checks a start that waits for another server: SIGHUP does
// not end it, SIGTERM ends it at once, and the mailboxes are untouched.
func TestWaitingStartCanBeStopped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, snapshot.FileName), "of the other server")
	other, err := snapshot.Open(dir, nil, 0, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c := startProcess(t, "-state", dir)
	for began := time.Now(); !strings.Contains(c.log.String(), "waiting for another server"); time.Sleep(time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("the program does not wait:\n%s", c.log)
		}
	}
	c.signal(syscall.SIGHUP)
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	c.signal(syscall.SIGTERM)
	if err := c.cmd.Wait(); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("the program exited with %v after %v, want exit code 0 at once\n%s", err, time.Since(began), c.log)
	}
	if text, err := os.ReadFile(filepath.Join(dir, snapshot.FileName)); string(text) != "of the other server" {
		t.Errorf("the other server's mailboxes: %q, %v", text, err)
	}
}

// TestListenersCloseFirst checks that the listeners close before the shutdown waits for
// anything.
func TestListenersCloseFirst(t *testing.T) {
	timeouts := server.DefaultTimeouts()
	timeouts.Drain, timeouts.Shutdown = 2*time.Minute, 3*time.Minute
	out, forceStop, exit := newOutput(), make(chan struct{}), make(chan int, 1)
	ctx, cancel := context.WithCancel(t.Context())
	args := []string{"-bind", "127.0.0.1:0", "-state", t.TempDir(), "-https=false"}
	go func() {
		exit <- run(ctx, process{args: args, stdout: io.Discard, stderr: out, timeouts: timeouts, forceStop: forceStop})
	}()
	addr := <-out.listening
	cancel()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		conn.Close()
		if time.Since(began) > time.Minute {
			t.Error("the listener is open while the server drains")
			break
		}
	}
	close(forceStop)
	if code := <-exit; code != exitDone {
		t.Errorf("exit code %d, want 0:\n%s", code, out)
	}
}

// TestSlowPostsAreAborted checks that a post that exceeds the shutdown timeout is aborted
// and never gets 200.
func TestSlowPostsAreAborted(t *testing.T) {
	timeouts := server.DefaultTimeouts()
	timeouts.Shutdown = 100 * time.Millisecond
	p := startWithTimeouts(t, timeouts, "-https=false")
	p.claim("alice")
	c := &child{program: p}
	post := c.slowPost("alice", "bob")
	if code := p.stop(); code != exitDone {
		t.Errorf("exit code %d, want 0", code)
	}
	if resp, err := http.ReadResponse(post.r, nil); err == nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("a post that was not stored got status 200")
		}
	}
	// The aborted post can claim its sender's name before or after the snapshot.
	if log := p.log.String(); !strings.Contains(log, "inboxes=1 messages=0") && !strings.Contains(log, "inboxes=2 messages=0") {
		t.Errorf("want a snapshot with alice's name and without the aborted post:\n%s", log)
	}
	if !strings.Contains(p.log.String(), "aborting the remaining requests") {
		t.Errorf("the log does not mention the aborted post:\n%s", p.log)
	}
}

// TestRunWithCanceledContext checks that the program exits if the context is canceled before
// the start.
func TestRunWithCanceledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := newOutput()
	code := run(ctx, process{
		args:   []string{"-bind", "127.0.0.1:0", "-state", t.TempDir()},
		stdout: io.Discard, stderr: out, timeouts: server.DefaultTimeouts(),
	})
	if code != exitDone {
		t.Errorf("exit code %d, want 0:\n%s", code, out)
	}
}
