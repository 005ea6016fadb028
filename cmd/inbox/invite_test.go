package main

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"inbox/inbox"
)

var tokenPattern = regexp.MustCompile(`\binvite_[a-z2-7]{32}\b`)

// runInvite runs inbox invite and returns what it prints.
func runInvite(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := runOnce(t, nil, append([]string{"invite"}, args...)...)
	if code != exitDone || stderr != "" {
		t.Fatalf("inbox invite %q: exit code %d, %s", args, code, stderr)
	}
	return stdout
}

// newInvitation makes an invitation in the state directory, or with the options of a store.
func newInvitation(t *testing.T, label string, options ...string) string {
	t.Helper()
	token := tokenPattern.FindString(runInvite(t, append([]string{"-label", label}, options...)...))
	if token == "" {
		t.Fatal("no invitation was printed")
	}
	return token
}

// as sends a request of a name with an invitation.
func (p *program) as(token, method, path, name, body string) response {
	p.t.Helper()
	r, err := http.NewRequest(method, p.url+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if name != "" {
		r.SetBasicAuth(name, "password of "+name)
	}
	if token != "" {
		r.Header.Set(inbox.InviteField, token)
	}
	a, err := p.send(r)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// wantAs waits until a request with an invitation gets a status: a server notices a change within
// a second.
func (p *program) wantAs(token string, status int, method, path, name string) {
	p.t.Helper()
	var got response
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = p.as(token, method, path, name, ""); got.status == status {
			return
		}
	}
	p.t.Fatalf("%s %s as %s: got %d %s, want %d", method, path, name, got.status, got.body, status)
}

func TestInviteCommand(t *testing.T) {
	dir := t.TempDir()
	out := runInvite(t, "-label", "anna", "-for", "12h", "-state", dir, "-domain", "example.org", "-acme-agree")
	token := tokenPattern.FindString(out)
	for _, want := range []string{"https://example.org/#invite=" + token + "\n", "\n  " + token + "\n", "▀", "Invitation for anna, valid until ", "-access is not invited"} {
		if token == "" || !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "invitations")); err != nil || strings.Contains(string(text), strings.TrimPrefix(token, "invite_")) {
		t.Errorf("got %v, and the token in the file:\n%s", err, text)
	}
	if info, err := os.Stat(filepath.Join(dir, "invitations")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info, err)
	}
	if out := runInvite(t, "-list", "-state", dir); strings.Count(out, "\n") != 2 || !strings.Contains(out, "anna   ") || !strings.Contains(out, "valid until ") {
		t.Errorf("got the list\n%s", out)
	}
	if out := runInvite(t, "-revoke", "anna", "-state", dir); !strings.HasPrefix(out, "Revoked the invitation for anna of ") {
		t.Errorf("got %s", out)
	}
	if out := runInvite(t, "-list", "-state", dir); !strings.Contains(out, "revoked ") || strings.Contains(out, token) {
		t.Errorf("got the list\n%s", out)
	}
	if out := runInvite(t, "-revoke", "all", "-state", dir); out != "There was no valid invitation.\n" {
		t.Errorf("got %s", out)
	}
}

func TestInviteCommandRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, row := range []struct {
		code int
		args string
		want string
	}{
		{exitUsage, "invite -state " + dir, "requires one of -label LABEL, -list and -revoke LABEL"},
		{exitUsage, "invite -label a -list -state " + dir, "requires one of"},
		{exitUsage, "invite -list -for 3 -state " + dir, "-for \"3\" (from command line): requires -label"},
		{exitUsage, "invite -label a -for 0 -state " + dir, "must be from"},
		{exitUsage, "invite -label all -state " + dir, `-label "all": must be 1 to 64 bytes`},
		{exitUsage, "invite -list -state= -turn off", "inbox invite requires -state or -store"},
		{exitUsage, "-label a -state " + dir, "applies only to invitations: inbox invite -label"},
		{exitUsage, "-access invited -state= -turn off", "-access \"invited\" (from command line): requires -state or -store"},
		{exitUsage, "-access friends", "must be open or invited"},
		{exitFailure, "invite -revoke carol -state " + dir, "no valid invitation has this label"},
		{exitFailure, "invite -label a -state " + dir + "/missing", "run inbox invite as root, or as the user of the server"},
	} {
		code, _, stderr := runOnce(t, nil, strings.Fields(row.args)...)
		if code != row.code || !strings.Contains(stderr, row.want) {
			t.Errorf("inbox %s: got %d %q, want %d and %q", row.args, code, stderr, row.code, row.want)
		}
	}
}

// TestPrivateServer is the life of an invitation beside a running server, with a WebSocket. The
// token is in no log.
func TestPrivateServer(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "-https=false", "-access", "invited", "-state", dir, "-log-level", "debug", "-metrics-bind", "127.0.0.1:0")
	p.want(http.StatusForbidden, "GET", "/inbox?wait=0", "anna", "")
	token := newInvitation(t, "anna", "-state", dir)
	p.wantAs(token, http.StatusNoContent, "GET", "/inbox?wait=0", "anna")
	made := p.as(token, "POST", "/guest-pass", "", `{"names":["anna","ben"]}`)
	guest := regexp.MustCompile(`guest_[\w-]+`).FindString(made.body)
	if made.status != http.StatusOK || guest == "" {
		t.Fatalf("got %d %s", made.status, made.body)
	}
	host, ben := p.socket(t, "anna", "invite="+token), p.socket(t, "ben", "invite="+guest)
	ben.send("send 1 anna text hello")
	ben.want("ok 1")
	host.want(`msg \d+ ben text hello`)
	ben.send("send 2 carol text hello")
	ben.want(`fail 2 \{.*invitation-required.*`)
	stranger, err := p.dialSocket(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	stranger.send("hello carol password invite=%s", guest)
	stranger.want(`fail 0 \{.*invitation-required.*`)
	runInvite(t, "-revoke", "anna", "-state", dir)
	host.want("end claim-ended")
	ben.want("end claim-ended")
	p.wantAs(token, http.StatusForbidden, "GET", "/inbox?wait=0", "anna")
	again := newInvitation(t, "anna", "-state", dir)
	p.wantAs(again, http.StatusNoContent, "GET", "/inbox?wait=0", "anna")
	p.wantAs(guest, http.StatusForbidden, "GET", "/inbox?wait=0", "ben")
	p.stop()
	for _, secret := range []string{token, guest, again} {
		if strings.Contains(p.log.String(), secret[10:]) {
			t.Errorf("the log contains a token:\n%s", p.log)
		}
	}
}

// TestPrivateServerRestarts checks that the next process knows the invitations, and that it does
// not start with a damaged file.
func TestPrivateServerRestarts(t *testing.T) {
	dir := t.TempDir()
	token := newInvitation(t, "anna", "-state", dir)
	for range 2 {
		p := start(t, "-https=false", "-access", "invited", "-state", dir)
		if got := p.as(token, "GET", "/inbox?wait=0", "anna", ""); got.status != http.StatusNoContent {
			t.Errorf("got %d %s", got.status, got.body)
		}
		p.stop()
	}
	writeFile(t, filepath.Join(dir, "invitations"), "{")
	code, _, stderr := runOnce(t, nil, "-bind", "127.0.0.1:0", "-turn", "off", "-access", "invited", "-state", dir)
	if code != exitFailure || !strings.Contains(stderr, "the stored invitations cannot be read") {
		t.Errorf("with a damaged file: got %d %s", code, stderr)
	}
}

// TestOpenServerIgnoresInvitations checks that an open server has no path for guest passes.
func TestOpenServerIgnoresInvitations(t *testing.T) {
	p := start(t, "-https=false")
	if got := p.as("anything", "GET", "/inbox?wait=0", "anna", ""); got.status != http.StatusNoContent {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := p.as("anything", "POST", "/guest-pass", "", "{}"); got.status == http.StatusOK || got.status == http.StatusForbidden {
		t.Errorf("got %d %s", got.status, got.body)
	}
	s := p.socket(t, "ben", "invite=anything")
	s.send("send 1 anna text hello")
	s.want("ok 1")
}

// TestPendingSendsEndWithInvitation checks that with invitations in the state directory.
func TestPendingSendsEndWithInvitation(t *testing.T) {
	dir := t.TempDir()
	checkPendingSends(t, start(t, "-https=false", "-access", "invited", "-state", dir), "-state", dir)
}

// checkPendingSends checks that revoking an invitation ends the sends that wait for their recipient:
// over HTTP, and on a WebSocket whose claim continues with another invitation of its owner.
func checkPendingSends(t *testing.T, p *program, options ...string) {
	t.Helper()
	old, other := newInvitation(t, "old", options...), newInvitation(t, "other", options...)
	for _, token := range []string{old, other} {
		p.wantAs(token, http.StatusNoContent, "GET", "/inbox?wait=0", "ann")
	}
	s := p.socket(t, "ann", "invite="+old)
	p.wantAs(other, http.StatusNotFound, "POST", "/inbox?to=missing", "ann") // the latest invitation counts
	s.send("send 1 late?wait=20 text one")
	s.send("send 2 missing text two")
	s.want(`fail 2 \{.*no-inbox.*`) // the first one waits
	answer := make(chan response, 1)
	go func() { answer <- p.as(old, "POST", "/inbox?to=late&wait=20", "ben", "three") }()
	time.Sleep(100 * time.Millisecond) // usually it waits, too
	runInvite(t, append([]string{"-revoke", "old"}, options...)...)
	s.want(`fail 1 \{.*invitation-expired.*`)
	if got := <-answer; got.status != http.StatusForbidden || !strings.Contains(got.body, "invitation-expired") {
		t.Errorf("over HTTP: got %d %s, want 403", got.status, got.body)
	}
	p.wantAs(other, http.StatusNoContent, "GET", "/inbox?wait=0", "late")
}
