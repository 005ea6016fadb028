package main

import (
	"bytes"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestMaskAddresses(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"http: TLS handshake error from 192.0.2.77:4711: EOF", "http: TLS handshake error from 192.0.2.0/24: EOF"},
		{"from [2001:db8:1:2:3::9]:443: x", "from 2001:db8:1::/48: x"},
		{"from [::ffff:192.0.2.77]:443: x", "from 192.0.2.0/24: x"},
		{"from [fe80::1%eth0]:443: x", "from fe80::/48: x"},
		{"from 999.0.2.77:4711: x", "from (address): x"},
		{"no address at 12:30:45", "no address at 12:30:45"},
	} {
		if got := maskAddresses(tt.text); got != tt.want {
			t.Errorf("maskAddresses(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestErrorLogFilter(t *testing.T) {
	var out bytes.Buffer
	f := &errorLogFilter{log: slog.New(slog.NewTextHandler(&out, nil))} // level info
	for _, tt := range []struct {
		line  string
		noise bool
	}{
		{"http: TLS handshake error from 192.0.2.1:1: EOF", true},
		{"http2: server: error reading preface from client 192.0.2.1:1: EOF", true},
		{"timeout waiting for PING response from 192.0.2.1:1", true},
		{"http2: panic serving 192.0.2.1:1: boom", false},
		{"http: panic serving 192.0.2.1:1: boom", false},
		{"http: Accept error: too many open files; retrying in 5ms", false},
	} {
		out.Reset()
		before := f.suppressed.Load()
		f.logger().Print(tt.line)
		if counted := f.suppressed.Load() > before; counted != tt.noise {
			t.Errorf("%q counted as noise: %v, want %v", tt.line, counted, tt.noise)
		}
		if logged := strings.Contains(out.String(), "level=ERROR"); logged == tt.noise {
			t.Errorf("%q logged as an error: %v, want %v", tt.line, logged, !tt.noise)
		}
		if strings.Contains(out.String(), "192.0.2.1") {
			t.Errorf("an unmasked address is in %s", out.String())
		}
	}
}

// TestLogOmitsSecrets checks that the log contains no names, passwords, messages or
// complete addresses.
func TestLogOmitsSecrets(t *testing.T) {
	p := start(t, "-log-level", "debug")
	p.claim("alice-the-name")
	p.want(http.StatusOK, "POST", "/inbox?to=alice-the-name", "bob-the-name", "the-body")
	p.want(http.StatusOK, "GET", "/inbox", "alice-the-name", "")
	client, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(client, "GET / HTTP/1.1\r\n\r\n") // not TLS
	io.Copy(io.Discard, client)
	client.Close()
	p.stop()
	text := p.log.String()
	for _, secret := range []string{"the-name", "password of", "the-body", basicAuthHeader("alice-the-name"), "to=", client.LocalAddr().String()} {
		if strings.Contains(text, secret) {
			t.Errorf("the log contains %q:\n%s", secret, text)
		}
	}
	for _, wanted := range []string{"method=POST route=/inbox status=200 dur=", "addr=127.0.0.0/24", "route=/inbox status=204", "TLS handshake error", "refusedHandshakes=1"} {
		if !strings.Contains(text, wanted) {
			t.Errorf("the log lacks %q:\n%s", wanted, text)
		}
	}
}

func TestUnknownVariablesAreLoggedAtDebug(t *testing.T) {
	c, err := parse([]string{"-https=false", "-log-level", "debug"}, []string{"INBOX_PORT=tcp://192.0.2.1:80"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := newServerWithoutListeners(c, process{environ: []string{"HOME=" + t.TempDir()}, stderr: &out}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "INBOX_PORT") || strings.Contains(out.String(), "192.0.2.1") {
		t.Errorf("want the name of the variable without its value:\n%s", out.String())
	}
}

// TestStandardLogIsCaptured checks that the program redirects the standard log to its own.
func TestStandardLogIsCaptured(t *testing.T) {
	defer log.SetOutput(log.Writer())
	p := start(t, "-log-level", "debug")
	log.Print("[ERROR] TLS-ALPN challenge server: accept 192.0.2.77:4711: reset")
	if text := p.log.String(); !strings.Contains(text, "accept 192.0.2.0/24: reset") {
		t.Errorf("the log lacks the line with a masked address:\n%s", text)
	}
}

// TestStandardLogIsFiltered checks that lines that certmagic writes to the standard log are
// suppressed as noise, but not a panic. Addresses are masked.
func TestStandardLogIsFiltered(t *testing.T) {
	defer log.SetOutput(log.Writer())
	var out bytes.Buffer
	f := &errorLogFilter{log: slog.New(slog.NewTextHandler(&out, nil))}
	f.captureStandardLog()
	log.Print("[ERROR] TLS-ALPN challenge server: accept 192.0.2.77:4711: reset")
	log.Print("http: TLS handshake error from 192.0.2.77:4711: EOF")
	if out.Len() > 0 || f.suppressed.Load() != 2 {
		t.Errorf("got log %q and %d suppressed lines, want nothing and 2", out.String(), f.suppressed.Load())
	}
	log.Print("panic: certificate worker for 192.0.2.77:4711")
	if got := out.String(); strings.Count(got, "level=ERROR") != 1 || strings.Contains(got, "192.0.2.77") {
		t.Errorf("got log %q, want the panic without the address", got)
	}
}
