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

	"inbox/cmd/inbox/internal/snapshot"
)

// child is the program in a process of its own, which can be sent signals.
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

// startProcess does not wait until it listens.
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

// rawRequest is one request on a connection of its own.
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

// slowPost sends a post without its body, and returns when the server waits for that.
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
		t.Fatalf("no answer: %v", err)
	}
	resp.Body.Close()
	return resp
}

// A signal ends polls with 204 at once, lets a post finish, and the exit code is 0.
func TestSignalShutsDownGracefully(t *testing.T) {
	t.Parallel()
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		c := startChild(t)
		polls := c.holdPoll("alice")
		post := c.slowPost("alice", "bob")
		began := time.Now()
		c.signal(s)
		answer := <-polls
		if answer.StatusCode != http.StatusNoContent || answer.Header.Get("Retry-After") == "" {
			t.Errorf("%v: the poll ended with %d and Retry-After %q, want 204 and some",
				s, answer.StatusCode, answer.Header.Get("Retry-After"))
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%v: the poll ended after %v, want at once", s, took)
		}
		io.WriteString(post, "hello")
		if got := post.answer(t).StatusCode; got != http.StatusOK {
			t.Errorf("%v: the post under way got %d, want 200", s, got)
		}
		if err := c.cmd.Wait(); err != nil {
			t.Errorf("%v: the program ended with %v, want exit code 0\n%s", s, err, c.log)
		}
		if _, err := net.Dial("tcp", c.addr); err == nil {
			t.Errorf("%v: something still listens", s)
		}
	}
}

// A poll that comes while the server stops, over a connection that was there
// before, is told to come back.
func TestPollsDuringShutdownGetRetryAfter(t *testing.T) {
	t.Parallel()
	c := startChild(t)
	held := c.holdPoll("alice")
	late := c.open("")
	post := c.slowPost("alice", "bob") // holds the end up; late was accepted before it
	c.signal(syscall.SIGTERM)
	<-held
	io.WriteString(late, "GET /inbox HTTP/1.1\r\nHost: x\r\n"+basicAuthHeader("alice")+"\r\n")
	answer := late.answer(t)
	if answer.StatusCode != http.StatusNoContent || answer.Header.Get("Retry-After") == "" {
		t.Errorf("got %d and Retry-After %q, want 204 and some", answer.StatusCode, answer.Header.Get("Retry-After"))
	}
	io.WriteString(post, "hello")
	post.answer(t)
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("the program ended with %v, want exit code 0\n%s", err, c.log)
	}
}

// Connections that nobody asked anything on, as browsers open them ahead, do not
// hold the end up.
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
		if scheme == "-https=true" { // some after their handshakes, too
			for _, protocol := range []string{"h2", "http/1.1"} {
				conn, err := tls.Dial("tcp", c.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			}
		} else {
			c.claim("alice") // the server has accepted all that came before
		}
		began := time.Now()
		c.signal(syscall.SIGTERM)
		if err := c.cmd.Wait(); err != nil {
			t.Errorf("%s: the program ended with %v\n%s", scheme, err, c.log)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s: the end took %v, want about the half second of the last calls", scheme, took)
		}
	}
}

// holdPoll returns once a poll of the name is held for certain: when it has
// ended another one. Its own answer comes over the channel.
func (c *child) holdPoll(name string) <-chan *http.Response {
	c.t.Helper()
	answers := make(chan *http.Response, 2)
	for range 2 {
		poll := c.open("GET /inbox HTTP/1.1\r\nHost: x\r\n" + basicAuthHeader(name) + "\r\n")
		go func() {
			resp, err := http.ReadResponse(poll.r, nil)
			if err != nil {
				c.t.Errorf("a poll got no answer: %v", err)
				resp = new(http.Response)
			}
			answers <- resp
		}()
	}
	if ended := <-answers; ended.Header.Get("X-Poll-Ended") != "superseded" {
		c.t.Fatalf("of two polls none was superseded: status %d", ended.StatusCode)
	}
	return answers
}

// Another signal in the same moment changes nothing. A later one waits for no
// post; what was answered is saved all the same.
func TestSecondSignalSaves(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		after time.Duration
		want  bool // the post that is under way is answered
	}{
		{"in the same moment", 10 * time.Millisecond, true},
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
				t.Errorf("the program ended with %v, want exit code 0\n%s", err, c.log)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("the program ended after %v, want sooner than the ten seconds of a post", took)
			}
			want := map[bool]string{true: "inboxes=2 messages=2", false: "inboxes=2 messages=1"}[test.want]
			c.wantLog(`msg="mailboxes saved" ` + want)
			wantMode(t, dir, snapshot.FileName, 0o600)
		})
	}
}

// While a start waits for another server a hangup does not end it, and a
// signal ends it at once; the mailboxes stay where they are.
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
		t.Errorf("the program ended with %v after %v, want exit code 0 at once\n%s", err, time.Since(began), c.log)
	}
	if text, err := os.ReadFile(filepath.Join(dir, snapshot.FileName)); string(text) != "of the other server" {
		t.Errorf("the other server's mailboxes: %q, %v", text, err)
	}
}

// The listeners are closed before anything is waited for: who connects from
// then on waits for the next process, or learns that there is none.
func TestListenersCloseFirst(t *testing.T) {
	timeouts := defaultTimeouts()
	timeouts.drain, timeouts.shutdown = 2*time.Minute, 3*time.Minute
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
			t.Error("it still listens while it waits for the last requests")
			break
		}
	}
	close(forceStop)
	if code := <-exit; code != exitDone {
		t.Errorf("exit code %d, want 0:\n%s", code, out)
	}
}

// A post that takes longer than the server waits is cut off, never answered 200.
func TestSlowPostsAreAborted(t *testing.T) {
	timeouts := defaultTimeouts()
	timeouts.shutdown = 100 * time.Millisecond
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
			t.Error("a post that was not stored got 200")
		}
	}
	if !strings.Contains(p.log.String(), "inboxes=2 messages=0") {
		t.Errorf("the post that was cut off is in the snapshot, or names are not:\n%s", p.log)
	}
	if !strings.Contains(p.log.String(), "aborting the remaining requests") {
		t.Errorf("the log does not tell:\n%s", p.log)
	}
}

// A context that is over from the start ends the program, too.
func TestRunWithCanceledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := newOutput()
	code := run(ctx, process{
		args:   []string{"-bind", "127.0.0.1:0", "-state", t.TempDir()},
		stdout: io.Discard, stderr: out, timeouts: defaultTimeouts(),
	})
	if code != exitDone {
		t.Errorf("exit code %d, want 0:\n%s", code, out)
	}
}
