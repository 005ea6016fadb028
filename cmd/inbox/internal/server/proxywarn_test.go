package server

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
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

// runLogged runs a server whose log is returned.
func runLogged(t *testing.T, args ...string) (*server, *syncBuffer) {
	t.Helper()
	out, p := &syncBuffer{}, testProcess()
	p.Stderr, p.Timeouts = out, shortTimeouts()
	s := build(t, p, resolve(t, args...), nil)
	stop, ended := runInBackground(t, s)
	t.Cleanup(func() { stop(); <-ended })
	return s, out
}

// Options of the servers that proxies misuse.
var (
	domainArgs = []string{"-domain", "a.example", "-acme-agree", "-acme-ca", "https://127.0.0.1:1/directory",
		"-acme-preflight=false", "-http-bind", "127.0.0.1:0"}
	plainArgs       = []string{"-https=false"}
	proxyHeaderArgs = []string{"-https=false", "-proxy-protocol"}
)

// proxyMistake is what a misconfigured proxy sends, with the start of the warning.
type proxyMistake struct {
	name, warning string
	args          []string
	send          func(t *testing.T, s *server)
}

var proxyMistakes = []proxyMistake{
	{"HTTPS without SNI", "a trusted proxy connects over HTTPS without a server name", domainArgs, func(t *testing.T, s *server) {
		dialTLS(t, s, "")
	}},
	{"HTTPS with another name", "a trusted proxy connects over HTTPS without a server name", domainArgs, func(t *testing.T, s *server) {
		dialTLS(t, s, "upstream")
	}},
	{"plain HTTP", "a trusted proxy sends plain HTTP to the HTTPS port", domainArgs, sendsMain("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")},
	{"CDN in flexible mode", "a trusted proxy forwards HTTPS requests to the HTTP port", domainArgs,
		sendsRedirect("GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n")},
	{"TLS to a server without HTTPS", "a trusted proxy connects over TLS to the HTTP port", plainArgs, func(t *testing.T, s *server) {
		dialTLS(t, s, "a.example")
	}},
	{"TLS to port 80", "a trusted proxy connects over TLS to the HTTP port", domainArgs, sendsRedirect("\x16\x03\x01\x00\x05hello\r\n\r\n")},
	{"TLS behind a PROXY header", "a trusted proxy forwards TLS connections to the HTTP port", proxyHeaderArgs,
		sendsMain("PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n\x16\x03\x01\x00\x05hello\r\n\r\n")},
	{"a PROXY header", "a trusted proxy sends a PROXY header, but", plainArgs,
		sendsMain("PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")},
	{"a PROXY header to the HTTPS port", "a trusted proxy sends a PROXY header, but", domainArgs, sendsMain("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")},
	{"no PROXY header", "a trusted proxy sends no PROXY header", proxyHeaderArgs, sendsMain("GET / HTTP/1.1\r\nHost: a\r\n\r\n")},
	{"a host that is not served", "a trusted proxy forwards requests for a host that is not in -domain", domainArgs, func(t *testing.T, s *server) {
		r, w := httptest.NewRequest("GET", "/ice", nil), httptest.NewRecorder()
		r.Host, r.RemoteAddr = "10.0.0.1:3000", "127.0.0.1:1"
		if s.main.server.Handler.ServeHTTP(w, r); w.Code != http.StatusMisdirectedRequest {
			t.Errorf("got %d, want 421", w.Code)
		}
	}},
	{"a host that is not served on port 80", "a trusted proxy forwards requests for a host that is not in -domain", domainArgs,
		sendsRedirect("GET / HTTP/1.1\r\nHost: upstream:3000\r\nConnection: close\r\n\r\n")},
}

// sendsMain returns a function that sends bytes to the main listener.
func sendsMain(text string) func(*testing.T, *server) {
	return func(t *testing.T, s *server) { sendAll(t, s.main.socket.Addr(), text) }
}

func sendsRedirect(text string) func(*testing.T, *server) {
	return func(t *testing.T, s *server) { sendAll(t, s.redirect.socket.Addr(), text) }
}

// sendAll sends bytes and waits until the server has closed the connection.
func sendAll(t *testing.T, to net.Addr, text string) {
	t.Helper()
	conn, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, text)
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the server keeps the connection open")
	}
}

func dialTLS(t *testing.T, s *server, name string) {
	t.Helper()
	conn, err := tls.Dial("tcp", s.main.socket.Addr().String(), &tls.Config{InsecureSkipVerify: true, ServerName: name})
	if err == nil {
		conn.Close()
		t.Errorf("%q: the handshake succeeded", name)
	}
}

// TestProxyMistakesAreLoggedOnce checks that each mistake of a trusted proxy is logged once,
// and those of other peers are not.
func TestProxyMistakesAreLoggedOnce(t *testing.T) {
	t.Parallel()
	for _, mistake := range proxyMistakes {
		t.Run(mistake.name, func(t *testing.T) {
			t.Parallel()
			s, out := runLogged(t, append(mistake.args, "-trusted-proxies", "127.0.0.1")...)
			other, untrusted := runLogged(t, append(mistake.args, "-trusted-proxies", "192.0.2.1")...)
			for range 3 {
				mistake.send(t, s)
				mistake.send(t, other)
			}
			awaitText(t, out, mistake.warning)
			if n := strings.Count(out.String(), "a trusted proxy"); n != 1 {
				t.Errorf("got %d warnings, want one:\n%s", n, out)
			}
			if !strings.Contains(out.String(), "fix=") {
				t.Errorf("the warning names no fix:\n%s", out)
			}
			if strings.Contains(untrusted.String(), "a trusted proxy") {
				t.Errorf("an untrusted peer caused a warning:\n%s", untrusted)
			}
		})
	}
}

func awaitText(t *testing.T, out *syncBuffer, text string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(out.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the log lacks %q:\n%s", text, out)
		}
	}
}

// TestUntrustedPrivateAddressIsReported checks the warning of a proxy that is missing in
// -trusted-proxies and sends PROXY headers.
func TestUntrustedPrivateAddressIsReported(t *testing.T) {
	t.Parallel()
	s, out := runLogged(t, append(proxyHeaderArgs, "-trusted-proxies", "192.0.2.1")...)
	for range 3 {
		sendAll(t, s.main.socket.Addr(), "PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	awaitText(t, out, "a private address was refused")
	if n := strings.Count(out.String(), "a private address was refused"); n != 1 {
		t.Errorf("got %d warnings, want one:\n%s", n, out)
	}
}

// TestHealthChecksOfProxiesCauseNoWarning opens connections as proxies do to check a server:
// without bytes, and with a host of their own.
func TestHealthChecksOfProxiesCauseNoWarning(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{domainArgs, plainArgs, proxyHeaderArgs} {
		s, out := runLogged(t, append(args, "-trusted-proxies", "127.0.0.1")...)
		for range 3 {
			if conn, err := net.Dial("tcp", s.main.socket.Addr().String()); err == nil {
				conn.Close()
			}
		}
		if len(args) == 2 {
			sendAll(t, s.main.socket.Addr(), "PROXY UNKNOWN\r\nGET /healthz HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n\r\n")
		}
		if strings.Contains(out.String(), "a trusted proxy") {
			t.Errorf("%v:\n%s", args, out)
		}
	}
}
