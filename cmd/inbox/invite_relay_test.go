package main

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"inbox/inbox/ice"
)

// turnServerAs returns the TURN server for a client with an invitation or a guest pass, and the
// UDP address.
func (p *program) turnServerAs(token, user string) (server ice.Server, udp string) {
	p.t.Helper()
	got := p.as(token, "GET", "/ice", user, "")
	var answer struct{ ICEServers []ice.Server }
	if err := json.Unmarshal([]byte(got.body), &answer); err != nil || len(answer.ICEServers) == 0 {
		p.t.Fatalf("GET /ice: got %d %s, %v", got.status, got.body, err)
	}
	server = answer.ICEServers[len(answer.ICEServers)-1]
	udp, _, _ = strings.Cut(strings.TrimPrefix(server.URLs[0], "turn:"), "?")
	return server, udp
}

// TestRelayedCallOutlivesInvitation checks that a relayed call of an invited client and its guest
// continues when the invitation is revoked, and that neither gets new credentials, nor a new relay with
// those it has.
func TestRelayedCallOutlivesInvitation(t *testing.T) {
	dir := t.TempDir()
	token := newInvitation(t, "anna", "-state", dir)
	p := start(t, "-access", "invited", "-state", dir, "-turn", "auto", "-turn-bind", "127.0.0.1:0")
	guest := regexp.MustCompile(`guest_[\w-]+`).FindString(p.as(token, "POST", "/guest-pass", "", `{"names":["anna","ben"]}`).body)
	annas, udp := p.turnServerAs(token, "anna")
	bens, _ := p.turnServerAs(guest, "ben")
	anna, annaRelay, err := allocate(t, listenUDP(t), udp, annas)
	if err != nil {
		t.Fatal(err)
	}
	ben, benRelay, err := allocate(t, listenUDP(t), udp, bens)
	if err != nil {
		t.Fatal(err)
	}
	relayPacket(t, anna, ben, annaRelay, benRelay)
	runInvite(t, "-revoke", "anna", "-state", dir)
	p.wantAs(token, http.StatusForbidden, "GET", "/ice", "anna")
	p.wantAs(guest, http.StatusForbidden, "GET", "/ice", "ben")
	relayPacket(t, ben, anna, benRelay, annaRelay)
	for name, server := range map[string]ice.Server{"anna": annas, "ben": bens} {
		if _, _, err := allocate(t, listenUDP(t), udp, server); err == nil {
			t.Errorf("%s got another relay with credentials from before", name)
		}
	}
}
