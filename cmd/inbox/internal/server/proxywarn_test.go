package server

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// syncBuffer is a buffer for concurrent writers.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// runDomainServer runs a server with -domain whose log is returned.
func runDomainServer(t *testing.T, args ...string) (*server, *syncBuffer) {
	t.Helper()
	out, p := &syncBuffer{}, testProcess()
	p.Stderr, p.Timeouts = out, shortTimeouts()
	c := resolve(t, append([]string{"-domain", "a.example", "-acme-agree", "-acme-ca", "https://127.0.0.1:1/directory",
		"-acme-preflight=false", "-http-bind", "127.0.0.1:0"}, args...)...)
	s := build(t, p, c, nil)
	stop, ended := runInBackground(t, s)
	t.Cleanup(func() { stop(); <-ended })
	return s, out
}

// mistakes are requests as misconfigured proxies send them, with the start of the warning.
var mistakes = []struct {
	name, warning string
	send          func(t *testing.T, s *server)
}{
	{"HTTPS without SNI", "a trusted proxy connects over HTTPS without a server name", func(t *testing.T, s *server) {
		dialTLS(t, s, "")
	}},
	{"HTTPS with another name", "a trusted proxy connects over HTTPS without a server name", func(t *testing.T, s *server) {
		dialTLS(t, s, "upstream")
	}},
	{"plain HTTP", "a trusted proxy sends plain HTTP to the HTTPS port", func(t *testing.T, s *server) {
		if resp, err := http.Get("http://" + s.main.socket.Addr().String()); err == nil {
			resp.Body.Close()
		}
	}},
	{"CDN in flexible mode", "a trusted proxy forwards HTTPS requests to the HTTP port", func(t *testing.T, s *server) {
		conn, err := net.Dial("tcp", s.redirect.socket.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n")
		io.Copy(io.Discard, conn)
	}},
}

func dialTLS(t *testing.T, s *server, name string) {
	t.Helper()
	conn, err := tls.Dial("tcp", s.main.socket.Addr().String(), &tls.Config{InsecureSkipVerify: true, ServerName: name})
	if err == nil {
		conn.Close()
		t.Errorf("%q: the handshake succeeded, want no certificate", name)
	}
}

// TestProxyMistakesAreLoggedOnce checks that each mistake of a trusted proxy is logged once,
// and those of other peers are not.
func TestProxyMistakesAreLoggedOnce(t *testing.T) {
	t.Parallel()
	for _, mistake := range mistakes {
		t.Run(mistake.name, func(t *testing.T) {
			t.Parallel()
			s, out := runDomainServer(t, "-trusted-proxies", "127.0.0.1")
			other, untrusted := runDomainServer(t)
			for range 3 {
				mistake.send(t, s)
				mistake.send(t, other)
			}
			for end := time.Now().Add(20 * time.Second); !strings.Contains(out.String(), mistake.warning); time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("the log lacks %q:\n%s", mistake.warning, out)
				}
			}
			awaitFailures := func() bool { return s.errorLog.Suppressed() >= 3 && other.errorLog.Suppressed() >= 3 }
			for end := time.Now().Add(20 * time.Second); mistake.name != "CDN in flexible mode" && !awaitFailures(); time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the failed handshakes were not counted")
				}
			}
			if n := strings.Count(out.String(), "a trusted proxy"); n != 1 {
				t.Errorf("got %d warnings, want one:\n%s", n, out)
			}
			if strings.Contains(untrusted.String(), "a trusted proxy") {
				t.Errorf("an untrusted peer caused a warning:\n%s", untrusted)
			}
		})
	}
}

func TestCameOverHTTPS(t *testing.T) {
	for _, row := range []struct {
		field, value string
		want         bool
	}{
		{"X-Forwarded-Proto", "https", true},
		{"X-Forwarded-Proto", "HTTPS, http", true},
		{"X-Forwarded-Proto", "http", false},
		{"X-Forwarded-Proto", "http, https", false},
		{"Forwarded", "for=192.0.2.1;proto=https", true},
		{"Forwarded", `for=192.0.2.1;proto="https"`, true},
		{"Forwarded", "for=192.0.2.1;proto=http", false},
		{"Cf-Visitor", `{"scheme":"https"}`, true},
		{"Cf-Visitor", `{"scheme":"http"}`, false},
		{"X-Forwarded-Ssl", "on", true},
		{"Front-End-Https", "On", true},
		{"Other", "https", false},
	} {
		if got := cameOverHTTPS(http.Header{row.field: {row.value}}); got != row.want {
			t.Errorf("%s: %s: got %v, want %v", row.field, row.value, got, row.want)
		}
	}
}
