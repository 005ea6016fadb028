//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/ice"
	"inbox/inbox/invite"
	"inbox/inbox/redisstore"

	"github.com/gobwas/ws"
)

// TestPrivateNodes checks that an invitation is valid on both nodes of a store, that a guest pass
// of one is, on the other, and that revoking ends the claims on both.
func TestPrivateNodes(t *testing.T) {
	t.Parallel()
	port := redisPort(t)
	startRedis(t, port, "geheim")
	a, options := privateNode(t, port)
	b, _ := privateNode(t, port)
	token := newInvitation(t, "anna", options...)
	a.wantAs(token, http.StatusNoContent, "GET", "/inbox?wait=0", "anna")
	b.wantAs(token, http.StatusNoContent, "GET", "/inbox?wait=0", "anna")
	guest := regexp.MustCompile(`guest_[\w-]+`).FindString(a.as(token, "POST", "/guest-pass", "", `{"names":["anna","ben"]}`).body)
	host, ben := a.socket(t, "anna", "invite="+token), b.socket(t, "ben", "invite="+guest)
	ben.send("send 1 anna text hello")
	ben.want("ok 1")
	host.want(`msg \d+ ben text hello`)
	runInvite(t, append([]string{"-revoke", "anna"}, options...)...)
	host.want("end claim-ended")
	ben.want("end claim-ended")
	for _, p := range []*program{a, b} {
		p.wantAs(token, http.StatusForbidden, "GET", "/inbox?wait=0", "anna")
		p.wantAs(guest, http.StatusForbidden, "GET", "/inbox?wait=0", "ben")
	}
}

// privateNode starts a private server on a store, and returns the options of the store.
func privateNode(t *testing.T, port int, args ...string) (p *program, options []string) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	writeFile(t, key, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
	options = []string{"-store", fmt.Sprintf("redis://:geheim@127.0.0.1:%d", port), "-store-key-file", key}
	p = start(t, append(append([]string{"-https=false", "-access", "invited", "-compat", "peerjs"}, options...), args...)...)
	p.wantReady(http.StatusOK)
	return p, options
}

// peer opens a PeerJS connection with a key.
func (p *program) peer(t *testing.T, key, id string) *socket {
	t.Helper()
	dialer := ws.Dialer{Timeout: socketTimeout}
	conn, r, _, err := dialer.Dial(t.Context(), "ws"+strings.TrimPrefix(p.url, "http")+"/peerjs?id="+id+"&token=t&key="+key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(socketTimeout))
	s := &socket{t, conn, conn}
	if r != nil {
		s.r = r
	}
	return s
}

// TestPeerJSKeysOnNodes has an invitation that one node of a store has learned used for PeerJS on the
// other, with a guest pass; revoking it ends both connections.
func TestPeerJSKeysOnNodes(t *testing.T) {
	t.Parallel()
	port := redisPort(t)
	startRedis(t, port, "geheim")
	a, options := privateNode(t, port)
	b, _ := privateNode(t, port)
	token := newInvitation(t, "anna", options...)
	for _, p := range []*program{a, b} {
		p.wantAs(token, http.StatusOK, "GET", "/peerjs/"+token+"/id", "")
	}
	guest := regexp.MustCompile(`guest_[\w-]+`).FindString(a.as(token, "POST", "/guest-pass", "", `{"names":["anna","ben"]}`).body)
	b.peer(t, guest, "carol").want(`\{"type":"INVALID-KEY".*`)
	anna, ben := a.peer(t, token, "anna"), b.peer(t, guest, "ben")
	for _, peer := range []*socket{anna, ben} {
		peer.want(`\{"type":"OPEN"\}`)
	}
	ben.send(`{"type":"OFFER","payload":"hello","dst":"anna"}`)
	anna.want(`\{.*"hello".*`)
	runInvite(t, append([]string{"-revoke", "anna"}, options...)...)
	for _, peer := range []*socket{anna, ben} {
		peer.want(`\{"type":"INVALID-KEY".*has expired.*`)
		peer.wantClose(ws.StatusPolicyViolation)
	}
	a.peer(t, guest, "ben").want(`\{"type":"INVALID-KEY".*`)
}

// TestPendingSendsEndOnNodes is TestPendingSendsEndWithInvitation on a node of a store.
func TestPendingSendsEndOnNodes(t *testing.T) {
	t.Parallel()
	port := redisPort(t)
	startRedis(t, port, "geheim")
	p, options := privateNode(t, port)
	checkPendingSends(t, p, options...)
}

// TestInvitationExpiresDuringCallOnStore checks that a relayed call of two nodes outlives the time of
// its invitation, and that nothing else does.
func TestInvitationExpiresDuringCallOnStore(t *testing.T) {
	t.Parallel()
	port, udp := redisPort(t), freeUDPPort(t)
	startRedis(t, port, "geheim")
	turn := []string{"-turn", "relay.example", "-turn-bind", udp}
	a, options := privateNode(t, port, turn...)
	b, _ := privateNode(t, port, turn...)
	start(t, slices.Concat(options, turn, []string{"-access", "invited", "-domain", "relay.example", "-acme-agree", "-acme-ca", "https://127.0.0.1:1/", "-http-bind", ""})...)
	token := newInvitation(t, "anna", options...)
	for _, p := range []*program{a, b} {
		p.wantAs(token, http.StatusNoContent, "GET", "/inbox?wait=0", "anna")
	}
	guest := regexp.MustCompile(`guest_[\w-]+`).FindString(b.as(token, "POST", "/guest-pass", "", `{"names":["anna","ben"]}`).body)
	host, ben := a.socket(t, "anna", "invite="+token), b.socket(t, "ben", "invite="+guest)
	annas, _ := a.turnServerAs(token, "anna")
	bens, _ := b.turnServerAs(guest, "ben")
	first, firstRelay, err := allocate(t, listenUDP(t), udp, annas)
	if err != nil {
		t.Fatal(err)
	}
	second, secondRelay, err := allocate(t, listenUDP(t), udp, bens)
	if err != nil {
		t.Fatal(err)
	}
	relayPacket(t, first, second, firstRelay, secondRelay)
	expireInvitations(t, port)
	host.want("end claim-ended")
	ben.want("end claim-ended")
	for _, p := range []*program{a, b} {
		p.wantAs(token, http.StatusForbidden, "GET", "/inbox?wait=0", "anna")
		p.wantAs(guest, http.StatusForbidden, "GET", "/ice", "ben")
		p.wantAs(token, http.StatusForbidden, "POST", "/guest-pass", "")
	}
	wantNoRelay(t, udp, annas)
	wantNoRelay(t, udp, bens)
	relayPacket(t, second, first, secondRelay, firstRelay)
}

// wantNoRelay waits until credentials open no relay: the node that is it learns so within a second.
func wantNoRelay(t *testing.T, udp string, server ice.Server) {
	t.Helper()
	for by := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		client, relay, err := allocate(t, listenUDP(t), udp, server)
		if err != nil {
			return
		}
		relay.Close()
		client.Close()
		if time.Now().After(by) {
			t.Fatal("credentials of an invitation that has ended open a relay")
		}
	}
}

// freeUDPPort returns a free UDP address of this machine.
func freeUDPPort(t *testing.T) string {
	t.Helper()
	c := listenUDP(t)
	defer c.Close()
	return c.LocalAddr().String()
}

// expireInvitations lets the time of the invitations of a store end in a second.
func expireInvitations(t *testing.T, port int) {
	t.Helper()
	address, err := redisstore.ParseAddress(fmt.Sprintf("redis://:geheim@127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	key := []byte("01234567890123456789012345678901")
	store := redisstore.New(redisstore.Config{Address: address, Key: key, Limits: inbox.Limits{Timeout: time.Minute}})
	defer store.Shutdown()
	for by := time.Now().Add(30 * time.Second); store.Ready() != nil && time.Now().Before(by); {
		time.Sleep(10 * time.Millisecond)
	}
	expires := time.Now().Add(time.Second - time.Minute).UTC() // a minute is the clock skew
	err = invite.NewShared(store, redisstore.Prefix, key).Update(t.Context(), func(text []byte) ([]byte, error) {
		var registry map[string]any
		if err := json.Unmarshal(text, &registry); err != nil {
			return nil, err
		}
		for _, one := range registry["invitations"].([]any) {
			one.(map[string]any)["expires"] = expires
		}
		return json.Marshal(registry)
	})
	if err != nil {
		t.Fatal(err)
	}
}
