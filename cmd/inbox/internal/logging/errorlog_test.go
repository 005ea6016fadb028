package logging

import (
	"bytes"
	"log"
	"log/slog"
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

func TestErrorLog(t *testing.T) {
	var out bytes.Buffer
	e := NewErrorLog(slog.New(slog.NewTextHandler(&out, nil))) // level info
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
		before := e.Suppressed()
		e.Logger().Print(tt.line)
		if counted := e.Suppressed() > before; counted != tt.noise {
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

func TestHandshakeReasons(t *testing.T) {
	for text, want := range map[string]string{
		"remote error: tls: unknown certificate":                              "rejected",
		"tls: no cipher suite supported by both client and server":            "no-cipher",
		"read tcp 192.0.2.0/24->192.0.2.0/24: read: connection reset by peer": "closed",
		`tls: client requested unsupported application protocols (["EOF"])`:   "no-protocol",
		"tls: an error of a later version of Go":                              "other",
		"tls: client offered only unsupported versions: [302 301]":            "version",
		"read tcp 127.0.0.0/24->127.0.0.0/24: i/o timeout":                    "timeout",
		"tls: first record does not look like a TLS handshake":                "not-tls",
		"client sent an HTTP request to an HTTPS server":                      "not-tls",
	} {
		if got := handshakeFailures[handshakeFailure(text)].reason; got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	e := NewErrorLog(slog.New(slog.DiscardHandler))
	e.Logger().Print("http2: server: error reading preface from client 192.0.2.1:1: EOF")
	if e.ProtocolErrors() != 1 || e.Suppressed() != 1 || e.HandshakeErrors()["closed"] != 0 {
		t.Error("an error after the handshake counts as a failed handshake")
	}
}

// TestStandardLogIsFiltered checks that lines that certmagic writes to the standard log are
// suppressed as noise, but not a panic. Addresses are masked.
func TestStandardLogIsFiltered(t *testing.T) {
	defer log.SetOutput(log.Writer())
	var out bytes.Buffer
	e := NewErrorLog(slog.New(slog.NewTextHandler(&out, nil)))
	e.CaptureStandardLog()
	log.Print("[ERROR] TLS-ALPN challenge server: accept 192.0.2.77:4711: reset")
	log.Print("http: TLS handshake error from 192.0.2.77:4711: EOF")
	if out.Len() > 0 || e.Suppressed() != 2 {
		t.Errorf("got log %q and %d suppressed lines, want nothing and 2", out.String(), e.Suppressed())
	}
	log.Print("panic: certificate worker for 192.0.2.77:4711")
	if got := out.String(); strings.Count(got, "level=ERROR") != 1 || strings.Contains(got, "192.0.2.77") {
		t.Errorf("got log %q, want the panic without the address", got)
	}
}

func TestHandshakePeer(t *testing.T) {
	for line, want := range map[string]string{
		"http: TLS handshake error from 192.0.2.1:4711: tls: no certificates configured\n":            "192.0.2.1:4711",
		"http: TLS handshake error from [2001:db8::1]:4711: tls: no certificates configured":          "[2001:db8::1]:4711",
		"http: TLS handshake error from @: EOF":                                                       "@",
		`http: TLS handshake error from 192.0.2.1:1: tls: client offered (["from 127.0.0.1:1: EOF"])`: "192.0.2.1:1",
	} {
		var got string
		e := NewErrorLog(slog.New(slog.DiscardHandler))
		e.OnHandshakeError = func(peer, _ string) { got = peer }
		e.Logger().Print(line)
		if got != want {
			t.Errorf("%q: got peer %q, want %q", line, got, want)
		}
	}
}
