package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/doctor"
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
