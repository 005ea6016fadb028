package invite

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inbox/inbox"
	"inbox/inbox/ice"
)

// privateServer is a handler of mailboxes, and that of guest passes, on one access.
type privateServer struct {
	*rig
	mailboxes *inbox.Handler
	passes    *Handler
	deleted   int    // calls of OnDelete
	onIssue   func() // called before credentials of a relay are made
}

func newPrivateServer(t *testing.T) *privateServer {
	s := &privateServer{rig: newRig(t), onIssue: func() {}}
	payer := func(r *http.Request) inbox.Payer { return inbox.Payer{Client: strings.Repeat("p", payerBytes)} }
	s.mailboxes = inbox.NewHandler(inbox.Config{
		Store: s.store, Secret: []byte("a secret of the test"), Path: "/inbox", ICEPath: "/ice", PollTimeout: 25 * time.Second,
		MaxBodyBytes: 1 << 20, Origins: []string{"https://app.example"}, CodePrefix: "code-", Access: s.Access, Payer: payer,
		TURN: func(_ *http.Request, owner string) ([]ice.Server, string) {
			s.onIssue()
			return []ice.Server{{URLs: []string{"turn:relay.example"}, Username: owner}}, ""
		},
		OnDelete: func(string) { s.deleted++ },
	})
	s.passes = NewHandler(HandlerConfig{Access: s.Access, Payer: payer, Origins: []string{"https://app.example"}})
	return s
}

// request returns a request of a user with a password derived from the name.
func request(method, target, user, token, body string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if user != "" {
		r.SetBasicAuth(user, "password of "+user)
	}
	if token != "" {
		r.Header.Set(inbox.InviteField, token)
	}
	return r
}

func (s *privateServer) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	if r.URL.Path == "/guest-pass" {
		s.passes.ServeHTTP(w, r)
	} else {
		s.mailboxes.ServeHTTP(w, r)
	}
	return w
}

// wantAnswer checks the status, and the kind of the problem if that is not empty.
func (s *privateServer) wantAnswer(r *http.Request, status int, kind string) *httptest.ResponseRecorder {
	s.t.Helper()
	w := s.do(r)
	if w.Code != status || kind != "" && !strings.Contains(w.Body.String(), `"urn:inbox:problem:`+kind+`"`) {
		s.t.Errorf("%s %s with %q: got %d %s, want %d %s", r.Method, r.URL, r.Header.Get(inbox.InviteField), w.Code, w.Body, status, kind)
	}
	return w
}

// TestOrderOfRefusals checks that 401 precedes 403, and 403 precedes 404.
func TestOrderOfRefusals(t *testing.T) {
	s := newPrivateServer(t)
	token := s.invite("anna", time.Hour)
	s.wantAnswer(request("GET", "/inbox?wait=0", "anna", token, ""), 204, "")
	stranger := request("POST", "/inbox?to=missing", "anna", "", "hello")
	stranger.SetBasicAuth("anna", "wrong")
	s.wantAnswer(stranger, 401, "unauthorized")
	s.wantAnswer(request("POST", "/inbox?to=missing", "", "", "hello"), 401, "unauthorized")
	s.wantAnswer(request("POST", "/inbox?to=missing", "anna", "", "hello"), 403, required)
	s.wantAnswer(request("POST", "/inbox?to=anna", "ben", "", "hello"), 403, required)
	s.wantAnswer(request("POST", "/inbox?to=missing", "anna", token, "hello"), 404, "no-inbox")
}

// TestEveryRequestNeedsInvitation checks each use of a mailbox, and that a refused one claims no
// name.
func TestEveryRequestNeedsInvitation(t *testing.T) {
	s := newPrivateServer(t)
	revoked := s.invite("anna", time.Hour)
	guest := s.pass(revoked, false)
	for _, r := range []struct{ method, target string }{
		{"GET", "/inbox?wait=0"}, {"POST", "/inbox?to=ben"}, {"POST", "/inbox?to=ben&wait=5"}, {"DELETE", "/inbox"}, {"POST", "/inbox/ack?upTo=1"},
		{"GET", "/ice"}, {"POST", "/guest-pass"},
	} {
		s.wantAnswer(request(r.method, r.target, "ben", "", "hello"), 403, required)
		s.wantAnswer(request(r.method, r.target, "ben", revoked[:20], "hello"), 403, required)
	}
	s.revoke("anna")
	for _, token := range []string{revoked, guest} {
		events := request("GET", "/inbox", "ben", token, "")
		events.Header.Set("Accept", "text/event-stream")
		s.wantAnswer(events, 403, expired)
		s.wantAnswer(request("GET", "/ice", "ben", token, ""), 403, expired)
		s.wantAnswer(request("POST", "/guest-pass", "", token, `{"names":["anna","ben"]}`), 403, expired)
	}
	if n := s.store.Stats().Inboxes; n != 0 {
		t.Errorf("got %d mailboxes, want none", n)
	}
	counts := s.mailboxes.Refusals()
	if counts[required] == 0 || counts[expired] == 0 || s.passes.Refusals()[expired] != 2 {
		t.Errorf("got %v and %v, want the refusals counted", counts, s.passes.Refusals())
	}
}

// TestRefusalIsReadableAcrossOrigins checks the fields of CORS.
func TestRefusalIsReadableAcrossOrigins(t *testing.T) {
	s := newPrivateServer(t)
	for _, target := range []string{"/inbox", "/ice", "/guest-pass"} {
		for _, origin := range []string{"https://app.example", "https://other.example"} {
			r := request("POST", target, "anna", "", "")
			if target == "/ice" {
				r.Method = "GET"
			}
			r.Header.Set("Origin", origin)
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", "cors")
			kind, allowed := required, origin
			if origin != "https://app.example" {
				kind, allowed = "cross-site", ""
			}
			if w := s.wantAnswer(r, 403, kind); w.Header().Get("Access-Control-Allow-Origin") != allowed {
				t.Errorf("%s from %s: got %v", target, origin, w.Header())
			}
		}
		preflight := request("OPTIONS", target, "", "", "")
		preflight.Header.Set("Origin", "https://app.example")
		if w := s.wantAnswer(preflight, 204, ""); !strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), inbox.InviteField) {
			t.Errorf("%s: got %v, want the field allowed", target, w.Header())
		}
	}
}

// newPass asks the server for a guest pass.
func (s *privateServer) newPass(token, body string) string {
	s.t.Helper()
	w := s.wantAnswer(request("POST", "/guest-pass", "", token, body), 200, "")
	var answer passResponse
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Header().Get("Cache-Control") != "no-store" {
		s.t.Fatalf("got %s with %v: %v", w.Body, w.Header(), err)
	}
	if in := time.Unix(answer.Expires, 0).Sub(s.clock.Now()); in != PassLifetime && in != RememberedLifetime {
		s.t.Errorf("got a pass for %v", in)
	}
	return answer.Pass
}

// TestRequestsForGuestPasses checks what the handler of guest passes refuses.
func TestRequestsForGuestPasses(t *testing.T) {
	s := newPrivateServer(t)
	token := s.invite("anna", 90*24*time.Hour)
	guest := s.newPass(token, `{"names":["anna","Zoe\u0308"],"remembered":true}`)
	s.want("a composed name", s.Admit(guest, "Zoë", inbox.Payer{}), nil)
	s.wantAnswer(request("POST", "/guest-pass", "", guest, `{"names":["anna","ben"]}`), 403, required)
	for _, body := range []string{"", "{}", `{"names":["a"]}`, `{"names":["a","b","c"]}`, `{"names":["a",""]}`, `{"names":["a","b:c"]}`, `{"names":[1,2]}`} {
		s.wantAnswer(request("POST", "/guest-pass", "", token, body), 400, "bad-request")
	}
	s.wantAnswer(request("POST", "/guest-pass", "", token, strings.Repeat(" ", maxRequestBytes+1)), 413, "body-too-large")
	s.wantAnswer(request("GET", "/guest-pass", "", token, ""), 405, "method-not-allowed")
}

// TestCallWithGuest is the signaling of a call of an invited host and a guest.
func TestCallWithGuest(t *testing.T) {
	s := newPrivateServer(t)
	token := s.invite("anna", 90*24*time.Hour)
	guest := s.newPass(token, `{"names":["anna","ben"]}`)
	s.wantAnswer(request("GET", "/inbox?wait=0", "anna", token, ""), 204, "")
	s.wantAnswer(request("POST", "/inbox?to=anna", "ben", guest, "offer"), 200, "")
	s.wantAnswer(request("POST", "/inbox?to=ben", "anna", token, "answer"), 200, "")
	s.wantAnswer(request("GET", "/inbox?wait=0", "ben", guest, ""), 200, "")
	s.wantAnswer(request("GET", "/ice", "ben", guest, ""), 200, "")
	s.wantAnswer(request("GET", "/inbox?wait=0", "carol", guest, ""), 403, required)
	s.wantAnswer(request("POST", "/inbox?to=carol", "ben", guest, "spam"), 403, required)
	s.wantAnswer(request("GET", "/ice", "carol", guest, ""), 403, required)
	if w := s.wantAnswer(request("GET", "/ice", "", "", ""), 200, ""); strings.Contains(w.Body.String(), "username") {
		t.Errorf("got %s without credentials", w.Body)
	}
	s.revoke("anna")
	s.wantAnswer(request("POST", "/inbox?to=anna", "ben", guest, "more"), 403, expired)
	s.wantAnswer(request("GET", "/ice", "ben", guest, ""), 403, expired)
	if s.deleted != 0 {
		t.Error("the relayed calls of a revoked invitation were ended")
	}
}

// TestCallByCode checks what a device without an invitation can do to enter a short code.
func TestCallByCode(t *testing.T) {
	s := newPrivateServer(t)
	token := s.invite("anna", time.Hour)
	const joiner = "join-AAAAAAAAAAAAAAAAAAAAAA"
	s.wantAnswer(request("POST", "/inbox?to=code-K7MXQ4", joiner, "", "join"), 404, "no-inbox")
	s.wantAnswer(request("GET", "/inbox?wait=0", "code-K7MXQ4", token, ""), 204, "")
	s.wantAnswer(request("POST", "/inbox?to=code-K7MXQ4", joiner, "", "join"), 200, "")
	s.wantAnswer(request("POST", "/inbox?to="+joiner, "code-K7MXQ4", token, "key"), 200, "")
	s.wantAnswer(request("GET", "/inbox?wait=0", joiner, "", ""), 200, "")
	s.wantAnswer(request("POST", "/inbox?to=anna", joiner, "", "spam"), 403, required)
	s.wantAnswer(request("GET", "/ice", joiner, "", ""), 403, required)
	s.wantAnswer(request("GET", "/inbox?wait=0", "code-AAAAAA", "", ""), 403, required)
	s.clock.advance(joinerLifetime)
	s.wantAnswer(request("GET", "/inbox?wait=0", joiner, "", ""), 403, required)
}

// TestReplayedPass checks that a guest pass that another client repeats opens its room only, with
// the password of its name.
func TestReplayedPass(t *testing.T) {
	s := newPrivateServer(t)
	guest := s.newPass(s.invite("anna", 90*24*time.Hour), `{"names":["anna","ben"]}`)
	s.wantAnswer(request("GET", "/inbox?wait=0", "ben", guest, ""), 204, "")
	thief := request("GET", "/inbox?wait=0", "ben", guest, "")
	thief.SetBasicAuth("ben", "another password")
	s.wantAnswer(thief, 401, "unauthorized")
	s.wantAnswer(request("GET", "/inbox?wait=0", "mallory", guest, ""), 403, required)
}

// TestStreamEndsWithInvitation checks that an open stream learns that its claim has ended.
func TestStreamEndsWithInvitation(t *testing.T) {
	s := newPrivateServer(t)
	token := s.invite("anna", time.Hour)
	web := httptest.NewServer(s.mailboxes)
	defer web.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", web.URL+"/inbox", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("anna", "password")
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set(inbox.InviteField, token)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	s.revoke("anna")
	var got []string
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		got = append(got, lines.Text())
	}
	if text := strings.Join(got, "\n"); answer.StatusCode != 200 || !strings.Contains(text, "claim-ended") {
		t.Errorf("got %s and %q, want the end of the claim", answer.Status, text)
	}
}

// TestNoRelayDuringRevocation checks that credentials of a relay that are made after those of the
// owner were revoked reach nobody.
func TestNoRelayDuringRevocation(t *testing.T) {
	s := newPrivateServer(t)
	token := s.invite("anna", time.Hour)
	s.onIssue = func() { s.revoke("anna") }
	s.wantAnswer(request("GET", "/ice", "anna", token, ""), 403, expired)
}

// TestRevocationAfterRestart checks that a claim whose invitation was revoked ends when its owner
// comes back, also if this process has not seen the owner before.
func TestRevocationAfterRestart(t *testing.T) {
	s := newPrivateServer(t)
	token := s.invite("anna", time.Hour)
	s.wantAnswer(request("GET", "/inbox?wait=0", "anna", token, ""), 204, "")
	s.claims.init(time.Hour, 0) // the process ends
	s.revoke("anna")
	s.wantAnswer(request("GET", "/inbox?wait=0", "anna", token, ""), 403, expired)
	s.follow()
	if n := s.store.Stats().Inboxes; n != 0 {
		t.Errorf("got %d mailboxes, want none", n)
	}
}

// TestPendingSendEndsWithInvitation checks that a message that waits for its recipient is not
// delivered after the invitation of its sender was revoked.
func TestPendingSendEndsWithInvitation(t *testing.T) {
	s := newPrivateServer(t)
	s.OnCheck(s.mailboxes.CheckAccess)
	token, other := s.invite("anna", time.Hour), s.invite("ben", time.Hour)
	answer := make(chan *httptest.ResponseRecorder, 1)
	go func() { answer <- s.do(request("POST", "/inbox?to=ben&wait=25", "anna", token, "late")) }()
	for by := time.Now().Add(30 * time.Second); s.store.Stats().Queued == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(by) {
			t.Fatal("the message does not wait")
		}
	}
	s.mailboxes.CheckAccess() // ends nothing
	s.revoke("anna")
	if w := <-answer; w.Code != 403 || !strings.Contains(w.Body.String(), expired) {
		t.Errorf("got %d %s, want 403", w.Code, w.Body)
	}
	s.wantAnswer(request("GET", "/inbox?wait=0", "ben", other, ""), 204, "")
}

// TestRefusalDoesNotProlongClaim checks that an owner without an invitation does not keep the name.
func TestRefusalDoesNotProlongClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPrivateServer(t)
		token := s.invite("anna", 24*time.Hour)
		s.wantAnswer(request("GET", "/inbox?wait=0", "anna", token, ""), 204, "")
		for range 3 {
			time.Sleep(25 * time.Minute) // the claim lasts an hour
			s.wantAnswer(request("GET", "/inbox?wait=0", "anna", "", ""), 403, required)
		}
		thief := request("GET", "/inbox?wait=0", "anna", token, "")
		thief.SetBasicAuth("anna", "another password")
		s.wantAnswer(thief, 204, "")
	})
}
