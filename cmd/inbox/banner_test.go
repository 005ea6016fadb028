package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inbox/tlsmgr"
)

func TestBannerShowsServedFingerprint(t *testing.T) {
	p := start(t)
	conn, err := p.client.Get(p.url + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	conn.Body.Close()
	want := tlsmgr.Fingerprint(conn.TLS.PeerCertificates[0])
	if !strings.Contains(p.log.String(), "\n  "+want+"\n") {
		t.Errorf("the banner lacks the fingerprint %s:\n%s", want, p.log)
	}
}

// TestCertificateFilesAreServed uses a self-signed certificate of the program as the
// operator's certificate files.
func TestCertificateFilesAreServed(t *testing.T) {
	dir := t.TempDir()
	start(t, "-state", dir).stop()
	files := []string{"-server-cert", filepath.Join(dir, "selfsigned.pem"), "-server-key", filepath.Join(dir, "selfsigned.pem")}
	p := start(t, files...)
	p.claim("alice")
	text := p.log.String()
	if !strings.Contains(text, "source=file") || strings.Contains(text, "self-signed") {
		t.Errorf("the certificate files are not used:\n%s", text)
	}
}

func TestMissingCertificateFilesWarning(t *testing.T) {
	p := start(t, "-server-cert", filepath.Join(t.TempDir(), "none.crt"))
	if !strings.Contains(p.log.String(), "level=WARN msg=\"the files of -server-cert") {
		t.Errorf("no warning:\n%s", p.log)
	}
	plain := start(t)
	if strings.Contains(plain.log.String(), "level=WARN") {
		t.Errorf("unexpected warning without certificate file options:\n%s", plain.log)
	}
}

func TestPlainHTTPWarning(t *testing.T) {
	all := start(t, "-https=false", "-bind", "0.0.0.0:0")
	if !strings.Contains(all.log.String(), "level=WARN msg=\"plain HTTP") {
		t.Errorf("no warning when listening on all addresses:\n%s", all.log)
	}
	loopback := start(t, "-https=false")
	if strings.Contains(loopback.log.String(), "level=WARN") {
		t.Errorf("unexpected warning on loopback:\n%s", loopback.log)
	}
	if _, err := os.Stat("server.crt"); err == nil {
		t.Error("the test wrote a certificate to its working directory")
	}
}
