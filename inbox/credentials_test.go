package inbox_test

import (
	"encoding/base64"
	"net/http/httptest"
	"strings"
	"testing"

	"inbox/inbox"
)

// authorize sends a poll with these Authorization fields.
func (s *rig) authorize(fields ...string) *httptest.ResponseRecorder {
	r := request("", "GET", "/inbox?wait=0", "")
	r.Header["Authorization"] = fields
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestAcceptedCredentials(t *testing.T) {
	for _, field := range []string{"Basic YTpi", "basic YTpi", "BASIC YTpi", "Basic  YTpi", "Basic     YTpi", "Basic YTpi "} {
		s := newRig(t, nil)
		s.want(s.authorize(field), 204, "")
	}
}

// TestUnreadableCredentials checks that the refusal says whether credentials are missing
// or cannot be read.
func TestUnreadableCredentials(t *testing.T) {
	wrapped := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("n", 60) + ":" + strings.Repeat("p", 60)))
	for _, row := range []struct {
		name   string
		fields []string
		status int
		why    string
	}{
		{"no field", nil, 401, "Send them with HTTP Basic"},
		{"an empty field", []string{""}, 401, "Send them with HTTP Basic"},
		{"the scheme alone", []string{"Basic"}, 401, "Send them with HTTP Basic"},
		{"another scheme", []string{"Bearer abc"}, 401, "Send them with HTTP Basic"},
		{"no space", []string{"BasicYTpi"}, 401, "Send them with HTTP Basic"},
		{"not base64", []string{"Basic what?"}, 401, "base64"},
		{"plain text", []string{"Basic alice:rabbit"}, 401, "base64"},
		{"without padding", []string{"Basic YTpiYg"}, 401, "base64"},
		{"base64url", []string{"Basic YTo_Pz8-"}, 401, "base64"},
		{"folded by a space", []string{"Basic " + wrapped[:76] + " " + wrapped[76:]}, 401, "base64"},
		{"a tab", []string{"Basic \tYTpi"}, 401, "base64"},
		{"two credentials", []string{"Basic YTpi, Basic YTpi"}, 401, "base64"},
		{"no colon", []string{"Basic YQ=="}, 401, "colon"},
		{"two fields", []string{"Basic YTpi", "Basic YTpi"}, 400, "once"},
		{"two schemes", []string{"Bearer abc", "Basic YTpi"}, 400, "once"},
		{"no password", []string{"Basic YTo="}, 400, "the password must have 1 to 256 bytes"},
		{"very long", []string{"Basic " + strings.Repeat("YTpi", 3000)}, 400, "longer than 256 bytes"},
		{"very long and not base64", []string{"Basic " + strings.Repeat("?", 12000)}, 400, "longer than 256 bytes"},
	} {
		s := newRig(t, nil)
		kind := map[int]string{400: "bad-request", 401: "unauthorized"}[row.status]
		if detail := s.wantProblem(s.authorize(row.fields...), row.status, kind); !strings.Contains(detail, row.why) {
			t.Errorf("%s: got detail %q, want %q in it", row.name, detail, row.why)
		}
		if s.store.Stats().Inboxes != 0 {
			t.Errorf("%s: a name was claimed", row.name)
		}
	}
}

func TestLengthOfCredentials(t *testing.T) {
	for _, row := range []struct{ name, password, status int }{{256, 256, 204}, {257, 255, 400}, {256, 257, 400}, {1, 257, 400}} {
		s := newRig(t, nil)
		r := request("", "GET", "/inbox?wait=0", "")
		r.SetBasicAuth(strings.Repeat("n", row.name), strings.Repeat("p", row.password))
		s.wantStatus(r, row.status)
	}
}

// TestCredentialsAreUTF8 checks that a client that encodes text as Latin-1 learns it, and
// is not told that its password is wrong.
func TestCredentialsAreUTF8(t *testing.T) {
	for _, pair := range []string{"Zo\xeb:kite", "alice:caf\xe9", "alice:\xff\xfec\x00a\x00", "\xc0\xaf:x"} {
		s := newRig(t, nil)
		w := s.authorize("Basic " + base64.StdEncoding.EncodeToString([]byte(pair)))
		if detail := s.wantProblem(w, 400, "bad-request"); !strings.Contains(detail, "UTF-8") {
			t.Errorf("%q: got detail %q, want UTF-8 in it", pair, detail)
		}
	}
}

// TestComposedAndDecomposedFormsAreOne checks that a name and a password mean the same in
// NFC and in NFD, wherever the name is given.
func TestComposedAndDecomposedFormsAreOne(t *testing.T) {
	const composed, decomposed = "Zoë", "Zoe\u0308"
	for _, row := range []struct{ claim, use string }{{composed, decomposed}, {decomposed, composed}} {
		s := newRig(t, nil)
		send := func(name, method, target string) *httptest.ResponseRecorder {
			r := request("", method, target, "hello")
			r.SetBasicAuth(name, "caf"+map[string]string{composed: "é", decomposed: "e\u0301"}[name])
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			return w
		}
		s.want(send(row.claim, "GET", "/inbox?wait=0"), 204, "")
		s.want(s.do("bob", "POST", "/inbox?to=Zoe%CC%88", "from bob"), 200, "")
		s.want(send(row.use, "GET", "/inbox?wait=0"), 200, "from bob")
		s.want(send(row.use, "POST", "/inbox?to=Zo%C3%AB"), 200, "")
		w := send(row.claim, "GET", "/inbox?wait=0")
		s.want(w, 200, "hello")
		if got := w.Header().Get("X-From"); got != "Zo%C3%AB" {
			t.Errorf("got X-From %q, want the composed form", got)
		}
		if got := s.store.Stats().Inboxes; got != 2 {
			t.Errorf("got %d mailboxes, want those of Zoë and bob", got)
		}
		s.want(send(row.use, "DELETE", "/inbox"), 204, "")
	}
}

// TestGuardSeesOneNamePerMailbox checks that another form of a name does not get attempts
// of its own.
func TestGuardSeesOneNamePerMailbox(t *testing.T) {
	c := &recordingGuard{refused: refuseNothing}
	s := newRig(t, func(cfg *inbox.Config, _ *inbox.Limits) { cfg.Guard = c })
	s.want(s.do("Zoë", "GET", "/inbox?wait=0", ""), 204, "")
	c.recorded = nil
	for _, name := range []string{"Zoë", "Zoe\u0308"} {
		r := request("", "GET", "/inbox?wait=0", "")
		r.SetBasicAuth(name, "a guess")
		s.wantStatus(r, 401)
	}
	s.want(s.do("Zoë", "POST", "/inbox?to=u%CC%88", "hello"), 404, "*")
	if got := strings.Join(c.recorded, ", "); got != "wrong Zoë, wrong Zoë, right Zoë, missed ü" {
		t.Errorf("recorded %q, want composed names", got)
	}
}

func TestContentEncoding(t *testing.T) {
	for _, row := range []struct {
		fields []string
		status int
	}{
		{nil, 200}, {[]string{"identity"}, 200}, {[]string{"Identity"}, 200}, {[]string{""}, 200}, {[]string{"identity, identity"}, 200},
		{[]string{"gzip"}, 415}, {[]string{"GZIP"}, 415}, {[]string{"br"}, 415}, {[]string{"zstd"}, 415}, {[]string{"deflate"}, 415},
		{[]string{"identity", "gzip"}, 415}, {[]string{"identity,gzip"}, 415}, {[]string{" gzip "}, 415}, {[]string{"x-unknown"}, 415},
	} {
		s := newRig(t, nil)
		s.do("bob", "GET", "/inbox?wait=0", "")
		r := request("alice", "POST", "/inbox?to=bob", "hello")
		r.Header["Content-Encoding"] = row.fields
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if row.status == 200 {
			s.want(w, 200, "")
			continue
		}
		s.wantProblem(w, 415, "content-encoding")
		if got := w.Header().Get("Accept-Encoding"); got != "identity" {
			t.Errorf("%q: got Accept-Encoding %q, want identity", row.fields, got)
		}
		if got := s.Refusals()["content-encoding"]; got != 1 {
			t.Errorf("%q: %d refusals are counted, want 1", row.fields, got)
		}
		s.want(s.do("bob", "GET", "/inbox?wait=0", ""), 204, "") // no message was stored
	}
}
