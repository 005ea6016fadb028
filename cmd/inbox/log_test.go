package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
)

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
	for _, wanted := range []string{"method=POST route=/inbox status=200 dur=", "addr=127.0.0.0/24", "route=/inbox status=204", "TLS handshake error", "suppressedErrors=1"} {
		if !strings.Contains(text, wanted) {
			t.Errorf("the log lacks %q:\n%s", wanted, text)
		}
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
