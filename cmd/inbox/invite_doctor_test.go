package main

import (
	"net/http"
	"strings"
	"testing"
)

// TestDoctorTestsPrivateRelay checks that the doctor sends packets through the relay of a private
// server, with a guest pass of its own.
func TestDoctorTestsPrivateRelay(t *testing.T) {
	dir, file := t.TempDir(), writeCertificate(t, "localhost")
	token := newInvitation(t, "anna", "-state", dir)
	p := start(t, "-access", "invited", "-state", dir, "-turn", "auto", "-turn-bind", "127.0.0.1:0", "-server-cert", file, "-server-key", file)
	offer := p.as(token, "GET", "/ice", "anna", "")
	if offer.status != http.StatusOK || !strings.Contains(offer.body, "turn:") {
		t.Fatalf("got %d %s", offer.status, offer.body)
	}
	_, rest, _ := strings.Cut(offer.body, `"turn:`)
	udp, _, _ := strings.Cut(rest, "?")
	args := []string{"doctor", "-access", "invited", "-bind", p.addr, "-state", dir, "-server-cert", file, "-server-key", file, "-turn-bind", udp}
	code, stdout, _ := runOnce(t, nil, args...)
	for _, want := range []string{"-access: The server is private. Valid invitations: 1.", "TURN over UDP: A packet passed from a relay to another, and back."} {
		if code != exitDone || !strings.Contains(stdout, want) {
			t.Errorf("exit code %d, and the output lacks %q:\n%s", code, want, stdout)
		}
	}
}
