package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/doctor"
	"inbox/tlsmgr/acme"
)

// TestDoctorDetectsRunningServer runs the doctor against a server over HTTPS, over plain
// HTTP and with exhausted rate limits.
func TestDoctorDetectsRunningServer(t *testing.T) {
	for _, args := range [][]string{nil, {"-https=false"}, {"-rate", "1", "-burst", "1"}} {
		p := start(t, args...)
		c := doctor.Config{HTTPS: !slices.Contains(args, "-https=false"), Bind: p.addr, StateDir: t.TempDir(),
			MailboxPath: "/inbox", HealthPath: "/healthz"}
		found := c.Examine(t.Context())
		i := slices.IndexFunc(found, func(f doctor.Finding) bool { return f.Check == "ports" })
		want := doctor.Finding{Check: "ports", Name: "-bind " + p.addr, Level: doctor.OK, Text: "In use by a running inbox."}
		if i < 0 || found[i] != want {
			t.Errorf("%v: got %+v, want %+v", args, found, want)
		}
	}
}

// TestPreflightIsLogged checks that the doctor's findings are logged at the first order.
func TestPreflightIsLogged(t *testing.T) {
	p := start(t, "-domain", "127.0.0.1", "-acme-agree", "-acme-ca", "https://127.0.0.1:1/directory", "-http-bind=")
	const finding = `level=WARN msg="doctor: The CA is unusable`
	for began := time.Now(); !strings.Contains(p.log.String(), finding); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("the log lacks %s:\n%s", finding, p.log)
		}
	}
}

// TestDoctorExitCodes checks that the exit code reports whether the doctor found a problem.
func TestDoctorExitCodes(t *testing.T) {
	for bind, want := range map[string]int{"127.0.0.1:0": exitDone, "192.0.2.1:3000": exitFailure} {
		var out bytes.Buffer
		args := []string{"doctor", "-https=false", "-bind", bind, "-state", t.TempDir()}
		if code := run(t.Context(), process{args: args, stdout: &out, stderr: io.Discard}); code != want {
			t.Errorf("-bind %s: exit code %d, want %d, after\n%s", bind, code, want, out.String())
		}
	}
}

// TestDoctorTestsRunningRelay sends packets through the relay of a server with certificate
// files, and claims a mailbox only for that.
func TestDoctorTestsRunningRelay(t *testing.T) {
	file := writeCertificate(t, "localhost")
	p := start(t, "-turn", "auto", "-turn-bind", "127.0.0.1:0", "-server-cert", file, "-server-key", file, "-max-inboxes", "2")
	_, udp := p.turnServer("alice")
	c := doctor.Config{
		HTTPS: true, Bind: p.addr, StateDir: t.TempDir(), MailboxPath: "/inbox", HealthPath: "/healthz",
		CertFile: file, KeyFile: file, CA: acme.CA{RootsFile: file},
		TURN: &doctor.TURN{Relay: true, Bind: udp, ICEPath: "/ice"},
	}
	var got []string
	for range 2 { // the second time, a mailbox that was left would exceed -max-inboxes
		got = nil
		for _, f := range c.Examine(t.Context()) {
			if f.Check == "turn" && f.Name != "receive buffer" {
				got = append(got, string(f.Level)+" "+f.Name)
			}
		}
	}
	if want := []string{"ok -turn-bind " + udp, "ok TURN over UDP", "ok TURN over TLS"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	p.want(http.StatusOK, "GET", "/ice", "alice", "")

	var out bytes.Buffer
	args := []string{"doctor", "-bind", p.addr, "-state", t.TempDir(), "-server-cert", file, "-server-key", file, "-turn-bind", udp}
	if code := run(t.Context(), process{args: args, stdout: &out, stderr: io.Discard}); code != exitDone ||
		!strings.Contains(out.String(), "ok       TURN over UDP: A packet passed from a relay to another, and back.\n") {
		t.Errorf("exit code %d:\n%s", code, out.String())
	}
	out.Reset()
	run(t.Context(), process{args: append(args, "-turn", "off"), stdout: &out, stderr: io.Discard})
	if strings.Contains(out.String(), "TURN") {
		t.Errorf("-turn off: got\n%s", out.String())
	}
}

// writeCertificate writes a self-signed certificate for a name, and its key, to a file.
func writeCertificate(t *testing.T, name string) (file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "server.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	writeFile(t, file, string(append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)))
	return file
}
