package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/server"
)

// metricsAddr returns the address of the metrics listener.
func (p *program) metricsAddr() string {
	p.t.Helper()
	m := metricsLine.FindStringSubmatch(p.log.String())
	if m == nil {
		p.t.Fatalf("no metrics listener in the log:\n%s", p.log)
	}
	return m[1]
}

// TestStatusCommand runs inbox status for a running server, with the address from each source.
func TestStatusCommand(t *testing.T) {
	p := start(t, "-metrics-bind", "127.0.0.1:0")
	p.claim("alice")
	p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", "hello")
	p.want(http.StatusOK, "GET", "/inbox", "alice", "")
	p.want(http.StatusNotFound, "POST", "/inbox?to=missing", "bob", "hello")
	addr := p.metricsAddr()
	dir := t.TempDir()
	file, envFile := filepath.Join(dir, "inbox.conf"), filepath.Join(dir, "inbox.env")
	writeFile(t, file, "metrics-bind "+addr+"\n")
	writeFile(t, envFile, "INBOX_METRICS_BIND="+addr+"\n")
	for _, row := range []struct{ environ, args []string }{
		{nil, []string{"-metrics-bind", addr}}, {nil, []string{"-config", file}}, {nil, []string{"-env-file", envFile}}, {[]string{"INBOX_METRICS_BIND=" + addr}, nil},
	} {
		code, stdout, stderr := runOnce(t, row.environ, append([]string{"status", "-state", dir}, row.args...)...)
		if code != exitDone || stderr != "" {
			t.Fatalf("%v: exit code %d, %q", row, code, stderr)
		}
		for _, want := range []string{" ready\n", "CERTIFICATES\n  localhost ", "self-signed", "  mailboxes            2 ", "2 mailboxes claimed, 1 message delivered", "no-inbox 1"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("%v: the output lacks %q:\n%s", row, want, stdout)
			}
		}
		if strings.Contains(stdout, "\x1b") || strings.Contains(stdout, "alice") {
			t.Errorf("%v: an escape sequence or a name is in the output:\n%s", row, stdout)
		}
	}
}

// TestStatusColours checks that colours need a terminal and no NO_COLOR.
func TestStatusColours(t *testing.T) {
	p := start(t, "-metrics-bind", "127.0.0.1:0", "-https=false")
	for _, row := range []struct {
		terminal bool
		environ  []string
		want     bool
	}{
		{true, nil, true}, {false, nil, false}, {true, []string{"NO_COLOR=1"}, false}, {true, []string{"TERM=dumb"}, false},
	} {
		var out bytes.Buffer
		code := run(t.Context(), process{
			args: []string{"status", "-metrics-bind", p.metricsAddr()}, environ: append(row.environ, "HOME="+t.TempDir()), stdout: &out, stderr: io.Discard,
			terminals: terminals{stdout: row.terminal},
		})
		if coloured := strings.Contains(out.String(), "\x1b["); code != exitDone || coloured != row.want {
			t.Errorf("%+v: exit code %d, coloured: %v\n%s", row, code, coloured, out.String())
		}
	}
}

// TestStatusWithoutServer checks the exit codes and that the errors say what to do.
func TestStatusWithoutServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Server{Handler: http.NotFoundHandler()}
	go other.Serve(l)
	defer other.Close()
	for _, row := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "INBOX_METRICS_BIND=127.0.0.1:9091"},
		{[]string{"-metrics-bind", "127.0.0.1:0"}, exitUsage, "port 0"},
		{[]string{"-metrics-bind", "nonsense"}, exitUsage, "must be an address and a port"},
		{[]string{"-metrics-bind", "127.0.0.1:1"}, exitFailure, "no server listens on 127.0.0.1:1 (-metrics-bind, from command line)\ninbox: check that it runs"},
		{[]string{"-metrics-bind", l.Addr().String()}, exitFailure, "HTTP status 404\ninbox: check that the port belongs to inbox"},
	} {
		code, stdout, stderr := runOnce(t, nil, append([]string{"status", "-state", t.TempDir()}, row.args...)...)
		if code != row.code || stdout != "" || !strings.Contains(stderr, row.want) {
			t.Errorf("%v: exit code %d, %q and %q; want %d and %q", row.args, code, stdout, stderr, row.code, row.want)
		}
	}
}

// TestOperatorsPage checks the page of a running server, and that a restart is counted.
func TestOperatorsPage(t *testing.T) {
	state := t.TempDir()
	for restarts := range 3 {
		p := start(t, "-metrics-bind", "127.0.0.1:0", "-https=false", "-state", state)
		if code, text := p.metrics("/", "localhost"); code != http.StatusOK || !strings.Contains(text, `src="page.js"`) {
			t.Fatalf("got %d %q, want the page", code, text)
		}
		code, text := p.metrics("/status.json", "localhost")
		var status struct {
			Ready    bool
			Restarts struct {
				LastDay int `json:"last_day"`
			}
		}
		if err := json.Unmarshal([]byte(text), &status); err != nil || code != http.StatusOK || !status.Ready || status.Restarts.LastDay != restarts {
			t.Errorf("got %d %s, want %d restarts", code, text, restarts)
		}
		for _, path := range []string{"/", "/status.json", "/page.js"} {
			if code, _ := p.metrics(path, "evil.example"); code != http.StatusMisdirectedRequest {
				t.Errorf("%s as evil.example: got %d, want 421", path, code)
			}
		}
		p.stop()
	}
	if _, err := os.Stat(filepath.Join(state, "starts")); err != nil {
		t.Error(err)
	}
}

// TestLogOnTerminal checks that only a terminal gets short lines, and colours unless NO_COLOR
// is set.
func TestLogOnTerminal(t *testing.T) {
	for _, row := range []struct {
		terminal bool
		environ  []string
		want     string
	}{
		{false, nil, `(?m)^time=\S+ level=INFO msg=listening addr=`},
		{true, []string{"NO_COLOR=1"}, `(?m)^\d\d:\d\d:\d\d INFO  listening  addr=127\.0\.0\.1:\d+ scheme=http$`},
		{true, nil, `(?m)^\x1b\[2m\d\d:\d\d:\d\d\x1b\[0m \x1b\[32mINFO\x1b\[0m  listening  \x1b\[2maddr=\x1b\[0m127`},
	} {
		out := newOutput()
		ctx, cancel := context.WithCancel(t.Context())
		exit := make(chan int, 1)
		go func() {
			exit <- run(ctx, process{
				args: []string{"-https=false", "-bind", "127.0.0.1:0", "-state", t.TempDir()}, environ: row.environ, stdout: io.Discard, stderr: out,
				terminals: terminals{stderr: row.terminal}, timeouts: server.DefaultTimeouts(),
			})
		}()
		matches := regexp.MustCompile(row.want).MatchString
		for began := time.Now(); !matches(out.String()) && time.Since(began) < 30*time.Second; {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		if code := <-exit; code != exitDone || !matches(out.String()) {
			t.Errorf("%+v: exit code %d, log\n%s", row, code, out.String())
		}
	}
}
