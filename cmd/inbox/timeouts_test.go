package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/server"
)

// shortTimeouts returns timeouts that expire quickly, for tests of the expiry.
func shortTimeouts() server.Timeouts {
	return server.Timeouts{Header: 200 * time.Millisecond, Body: 200 * time.Millisecond, Idle: 200 * time.Millisecond,
		Write: 5 * time.Second, Shutdown: 5 * time.Second, SaveStall: 20 * time.Second, Save: 20 * time.Second}
}

// basicAuthHeader returns the Authorization header line of a user.
func basicAuthHeader(name string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(name, "password of "+name)
	return "Authorization: " + r.Header.Get("Authorization") + "\r\n"
}

func TestSlowClientsTimeOut(t *testing.T) {
	for _, tt := range []struct{ name, sends string }{
		{"sends nothing", ""},
		{"half a header", "GET /inbox HTTP/1.1\r\nHost: x\r\nX-Slow: "},
		{"idle after a response", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"a body that no handler reads", "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"},
		{"a body of a page", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"},
		{"an endless body", "GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, scheme := range []string{"-https=true", "-https=false"} {
				c := startWithTimeouts(t, shortTimeouts(), scheme).dial()
				if _, err := io.WriteString(c, tt.sends); err != nil {
					t.Fatal(err)
				}
				c.SetDeadline(time.Now().Add(10 * time.Second))
				_, err := io.Copy(io.Discard, c)
				if e, ok := err.(net.Error); ok && e.Timeout() {
					t.Errorf("%s: the connection is still open after ten seconds", scheme)
				}
			}
		})
	}
}

func TestSilentHandshakeTimesOut(t *testing.T) {
	p := startWithTimeouts(t, shortTimeouts())
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || !isClosed(err) {
		t.Errorf("silent client: got %v, want a closed connection", err)
	}
}

func isClosed(err error) bool {
	e, ok := err.(net.Error)
	return !ok || !e.Timeout()
}

func TestSlowBodyGets408(t *testing.T) {
	p := startWithTimeouts(t, shortTimeouts(), "-https=false")
	p.claim("alice")
	c := p.dial()
	io.WriteString(c, "POST /inbox?to=alice HTTP/1.1\r\nHost: x\r\n"+basicAuthHeader("bob")+"Content-Length: 10\r\n\r\nabc")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("status %d, want 408", resp.StatusCode)
	}
	p.want(http.StatusNoContent, "GET", "/inbox?wait=0", "alice", "")
}

// TestWaitCanExceedBodyTimeout checks that the body timeout does not apply after the body:
// a pending send or a poll can wait longer.
func TestWaitCanExceedBodyTimeout(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"-https=true", "-https=false"} {
		timeouts := server.DefaultTimeouts()
		timeouts.Body = time.Second
		timeouts.Write = 3 * time.Second // starts only when the response is written
		p := startWithTimeouts(t, timeouts, scheme, "-poll-timeout", "4")
		p.want(http.StatusNotFound, "POST", "/inbox?to=nobody&wait=4", "bob", "hello")
		p.want(http.StatusNoContent, "GET", "/inbox", "bob", "")
	}
}

func TestHeaderLimit(t *testing.T) {
	for _, size := range []int{600, 5000, 20000} {
		p := start(t, "-https=false", "-max-header-size", fmt.Sprint(size), "-metrics-bind", "127.0.0.1:0")
		for _, tt := range []struct{ bytes, status int }{
			{size, http.StatusOK},
			{size + 1, http.StatusRequestHeaderFieldsTooLarge},
			{size + 3000, http.StatusRequestHeaderFieldsTooLarge},
			{size + 100_000, http.StatusRequestHeaderFieldsTooLarge},
		} {
			if got := statusOfHeader(t, p, tt.bytes); got != tt.status {
				t.Errorf("limit %d: header of %d bytes: got %d, want %d", size, tt.bytes, got, tt.status)
			}
		}
		p.waitMetric(`inbox_limited_total{limit="header"}`, 3)
	}
}

// statusOfHeader sends a request with a header of size bytes and returns the status.
func statusOfHeader(t *testing.T, p *program, size int) int {
	t.Helper()
	const start, end = "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Filler: ", "\r\n\r\n"
	c := p.dial()
	// The server can close the connection during the write, so write errors are ignored.
	go io.WriteString(c, start+strings.Repeat("x", size-len(start)-len(end))+end)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("header of %d bytes: %v", size, err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestHeaderLimitOverHTTP2(t *testing.T) {
	p := start(t, "-max-header-size", "5000")
	for size, want := range map[int]int{4000: http.StatusOK, 4950: http.StatusRequestHeaderFieldsTooLarge} {
		r, _ := http.NewRequest("GET", p.url+"/healthz", nil)
		r.Header.Set("X-Filler", strings.Repeat("x", size))
		if a, err := p.send(r); err != nil || a.status != want || a.proto != "HTTP/2.0" {
			t.Errorf("field of %d bytes: got %v, %s, status %d, want %d", size, err, a.proto, a.status, want)
		}
	}
}

// TestRefusalsLeaveHTTP2Open checks that a request that is too slow or too large does not
// close its HTTP/2 connection, which other requests share.
func TestRefusalsLeaveHTTP2Open(t *testing.T) {
	p := startWithTimeouts(t, shortTimeouts(), "-max-header-size", "600")
	p.claim("alice")
	stalled, stall := io.Pipe()
	defer stall.Close()
	for _, row := range []struct {
		method, path, field string
		body                io.Reader
		want                int
	}{
		{"GET", "/healthz", "", nil, http.StatusOK},
		{"GET", "/healthz", strings.Repeat("x", 480), nil, http.StatusRequestHeaderFieldsTooLarge}, // net/http's own limit is higher over HTTP/2
		{"POST", "/inbox?to=alice", "", stalled, http.StatusRequestTimeout},
		{"GET", "/healthz", "", nil, http.StatusOK},
	} {
		r, err := http.NewRequest(row.method, p.url+row.path, row.body)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("bob", "builder")
		r.Header.Set("X-Field", row.field)
		reused := false
		trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }}
		a, err := p.send(r.WithContext(httptrace.WithClientTrace(t.Context(), trace)))
		if err != nil || a.status != row.want || a.proto != "HTTP/2.0" || !reused {
			t.Errorf("%s %s: got %d over %s, connection kept %t (%v), want %d over HTTP/2 on the first connection",
				row.method, row.path, a.status, a.proto, reused, err, row.want)
		}
	}
}

// TestUnreadResponsesEnd checks that the response to a client that reads nothing ends, over each
// kind of connection.
func TestUnreadResponsesEnd(t *testing.T) {
	t.Parallel()
	const size = 64 << 20 // more than the buffers of both kernels
	dir := t.TempDir()
	file := filepath.Join(dir, "large.bin")
	writeFile(t, file, "")
	if err := errors.Join(os.Truncate(file, size), os.Chmod(file, 0o644)); err != nil {
		t.Fatal(err)
	}
	timeouts := server.DefaultTimeouts()
	timeouts.Write = 3 * time.Second // applies to the metrics that the test reads, too
	for _, row := range []struct{ scheme, protocol, limit string }{
		{"-https=false", "", "stalled-connections"},
		{"-https=true", "http/1.1", "stalled-connections"},
		{"-https=true", "h2", "stalled-streams"},
	} {
		t.Run(row.scheme+" "+row.protocol, func(t *testing.T) {
			t.Parallel()
			p := startWithTimeouts(t, timeouts, row.scheme, "-public", dir, "-metrics-bind", "127.0.0.1:0")
			var received int64
			var err error
			if row.protocol == "h2" {
				var resp *http.Response
				if resp, err = p.client.Get(p.url + "/large.bin"); err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				p.waitMetric(`inbox_limited_total{limit="`+row.limit+`"}`, 1)
				received, err = io.Copy(io.Discard, resp.Body)
			} else {
				c := p.dial()
				io.WriteString(c, "GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
				p.waitMetric(`inbox_limited_total{limit="`+row.limit+`"}`, 1)
				received, err = io.Copy(io.Discard, c)
			}
			if received >= size || !isClosed(err) {
				t.Errorf("got %d bytes and %v, want the end of the response", received, err)
			}
		})
	}
}
