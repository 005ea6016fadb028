//go:build linux

package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"testing"
)

// TestPrivateNodes checks that an invitation is valid on both nodes of a store, that a guest pass
// of one is, on the other, and that revoking ends the claims on both.
func TestPrivateNodes(t *testing.T) {
	port := redisPort(t)
	startRedis(t, port, "geheim")
	a, b, options := privateNodes(t, port)
	a.wantReady(http.StatusOK)
	b.wantReady(http.StatusOK)
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

// privateNodes starts two private servers on one store.
func privateNodes(t *testing.T, port int) (a, b *program, options []string) {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	writeFile(t, key, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
	options = []string{"-store", fmt.Sprintf("redis://:geheim@127.0.0.1:%d", port), "-store-key-file", key}
	server := append([]string{"-https=false", "-access", "invited"}, options...)
	return start(t, server...), start(t, server...), options
}
