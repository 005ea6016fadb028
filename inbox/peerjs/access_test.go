package peerjs

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/invite"
)

// privateServer is a handler of a private server, which follows changes of its invitations.
type privateServer struct {
	*testServer
	storage *invite.File
	access  *invite.Access
}

func servePrivate(t *testing.T) *privateServer {
	t.Helper()
	c, dir := testConfig(), t.TempDir()
	access, err := invite.New(invite.Config{
		Storage: invite.NewFile(dir), Store: c.Store, Remember: time.Hour, CodePrefix: "code-", JoinerPrefix: "join-",
		OnEnd: func(owner string) { t.Errorf("a claim of %q has ended, which has no owner", owner) },
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Access = access
	p := &privateServer{serve(t, c), invite.NewFile(dir), access}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); access.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return p
}

// invite makes an invitation that the server knows.
func (p *privateServer) invite(label string, lifetime time.Duration) string {
	p.t.Helper()
	token, _, err := invite.Add(p.t.Context(), p.storage, label, lifetime, time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	p.await("invitation", func() bool { return p.access.AdmitMember(token) != invite.ErrUnknown })
	return token
}

func (p *privateServer) revoke(label string) {
	p.t.Helper()
	if _, err := invite.Revoke(p.t.Context(), p.storage, label, time.Now()); err != nil {
		p.t.Fatal(err)
	}
}

func (p *privateServer) pass(token string) string {
	p.t.Helper()
	pass, _, err := p.access.GuestPass(token, [2]string{"anna", "ben"}, false, inbox.Payer{Client: "0123456789abcdef"})
	if err != nil {
		p.t.Fatal(err)
	}
	return pass
}

func (p *privateServer) dialKey(key, id string) *client {
	p.t.Helper()
	q := url.Values{"key": {key}, "id": {id}, "token": {"token of " + id}, "version": {"1.5.5"}}
	return p.dialPath("/peerjs?"+q.Encode(), "192.0.2.1")
}

func (p *privateServer) openKey(key, id string) *client {
	p.t.Helper()
	c := p.dialKey(key, id)
	c.expect(`{"type":"OPEN"}`)
	return c
}

// expectInvalidKey expects the frame that refuses a key, and the end.
func (c *client) expectInvalidKey(text string) {
	c.t.Helper()
	if got := c.next(); !strings.HasPrefix(got, `{"type":"INVALID-KEY","payload":{"msg":"`+text) {
		c.t.Fatalf("%s: got %q, want INVALID-KEY with %q", c.id, got, text)
	}
	c.expectEnd()
}

// TestKeysThatArePrivate checks which keys open a connection, and get an id.
func TestKeysThatArePrivate(t *testing.T) {
	p := servePrivate(t)
	token, old := p.invite("anna", time.Hour), p.invite("old", -time.Hour)
	guest := p.pass(token)
	const required, expired = "invitation-required", "invitation-expired"
	for _, row := range []struct{ key, id, frame, kind string }{
		{token, "carol", "", ""},
		{guest, "anna", "", required}, // a random id is no name of the pass
		{guest, "carol", "The guest pass is for another room", required},
		{"peerjs", "carol", "This server is private", required},
		{"peerjs", "code-123456", "", required},
		{"peerjs", "join-AAAAAAAAAAAAAAAAAAAAAA", "", required},
		{token[:20], "carol", "The invitation cannot be read", required},
		{guest[:40], "anna", "The invitation cannot be read", required},
		{guest[:len(guest)-4] + "AAAA", "anna", "The invitation is not known", required},
		{strings.Repeat("x", 4000), "carol", "The invitation cannot be read", required},
		{old, "carol", "The invitation has expired", expired},
	} {
		c := p.dialKey(row.key, row.id)
		if row.frame == "" && (row.key == token || row.key == guest) {
			c.expect(`{"type":"OPEN"}`)
			c.leave()
			p.awaitLost(row.id)
		} else {
			c.expectInvalidKey(row.frame)
		}
		resp, body := p.get("/peerjs/"+row.key+"/id", "Origin: https://a.example")
		if want := map[bool]int{true: 200, false: 403}[row.kind == ""]; resp.StatusCode != want || !strings.Contains(body, row.kind) ||
			resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("an id with %.30s: got %s %s", row.key, resp.Status, body)
		}
	}
	stats, refusals := p.Stats(), p.Refusals()
	if stats.Answers["invalid-key"] != 9 || refusals[required] != 8+9 || refusals[expired] != 2 {
		t.Errorf("got the answers %v and refusals %v", stats.Answers, refusals)
	}
}

// TestDamagedKeyIsNotRepeated checks that a refusal does not have the key that it refuses.
func TestDamagedKeyIsNotRepeated(t *testing.T) {
	p := servePrivate(t)
	text := p.dialKey("secretkey", "anna").next()
	_, body := p.get("/secretkey/id")
	if strings.Contains(text+body, "secret") {
		t.Errorf("got %s and %s", text, body)
	}
}

// TestGuestSendsToItsRoom checks that other ids are absent for a guest, that peers do not see a
// key, and that a guest counts against its inviter.
func TestGuestSendsToItsRoom(t *testing.T) {
	p := servePrivate(t)
	token := p.invite("anna", time.Hour)
	anna, ben, carol := p.openKey(token, "anna"), p.openKey(p.pass(token), "ben"), p.openKey(token, "carol")
	ben.message("OFFER", "anna", `"hello"`)
	if got := anna.next(); strings.Contains(got, "guest_") || strings.Contains(got, "invite_") {
		t.Errorf("the peer got %s", got)
	}
	ben.message("OFFER", "carol", `"hello"`)
	ben.expect(`{"type":"EXPIRE","src":"carol","dst":"ben"}`)
	carol.expectNothing()
	if payer := p.holder("ben").payer.Client; payer != "0123456789abcdef" {
		t.Errorf("got the payer %q, want the inviter", payer)
	}
}

// TestConnectionsEndWithTheirKey checks that invitations and passes end the connections that they
// have opened, and free the ids.
func TestConnectionsEndWithTheirKey(t *testing.T) {
	p := servePrivate(t)
	ann, ben := p.invite("ann", time.Hour), p.invite("ben", time.Hour)
	lost := p.openKey(ann, "lost")
	anna, guest, other := p.openKey(ann, "ann"), p.openKey(p.pass(ann), "anna"), p.openKey(ben, "ben")
	lost.hangUp()
	p.awaitLost("lost")
	p.revoke("ann")
	anna.expectInvalidKey("The invitation has expired")
	guest.expectInvalidKey("The invitation has expired")
	other.expectNothing()
	p.awaitFree("ann")
	p.awaitFree("lost")
	if code := anna.code.Load(); code != 1008 {
		t.Errorf("got the close code %d, want 1008", code)
	}
	p.dialKey(ann, "ann").expectInvalidKey("The invitation has expired")
	p.openKey(ben, "ann")
	short := p.invite("short", 500*time.Millisecond-time.Minute) // a minute is the clock skew
	late := p.dialKey(short, "late")
	if got := late.next(); got == `{"type":"OPEN"}` { // unless the machine is slow
		late.expectInvalidKey("The invitation has expired")
	}
}

// TestWaitingFramesEndWithTheirKey checks that what waits for an absent id is not delivered after the
// invitation of its sender was revoked, even while the sender does not answer the close frame.
func TestWaitingFramesEndWithTheirKey(t *testing.T) {
	p := servePrivate(t)
	p.timing.absent = wait
	ann, ben := p.invite("ann", time.Hour), p.invite("ben", time.Hour)
	sender := p.openKey(ann, "ann")
	sender.message("OFFER", "late", `"hello"`)
	p.await("frame that waits", func() bool {
		s := p.holder("ann")
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.queues != nil
	})
	sender.deaf.Store(true)
	p.revoke("ann")
	p.awaitFree("ann")
	p.openKey(ben, "late").expectNothing()
}
