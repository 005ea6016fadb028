package inbox_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"inbox/inbox"

	"golang.org/x/text/unicode/norm"
)

// FuzzAuthorization sends arbitrary Authorization fields. Each is refused, or claims
// a name that appears in X-From, composed.
func FuzzAuthorization(f *testing.F) {
	for _, seed := range []string{"", "Basic", "Basic YTpi", "basic YTpi", "Basic OmI=", "Basic YTo=", "Basic w4Q6Yg==", "Basic JSAlOmI=", "Bearer x", "Basic /w==", "Basic AGE6Yg==", "Basic  YTpi", "Basic YTpi YTpi", "Basic Wm9lzIg6Yg=="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		s := newRig(t, nil)
		s.do("receiver", "GET", "/inbox?wait=0", "")
		r := httptest.NewRequest("POST", "/inbox?to=receiver", strings.NewReader("hello"))
		r.Header["Authorization"] = []string{value}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		switch w.Code {
		case 400, 401:
			if s.store.Stats().Inboxes != 1 {
				t.Errorf("%q: refused with %d, but a name was claimed", value, w.Code)
			}
			return
		case 200:
		default:
			t.Fatalf("%q: got %d, want 200, 400 or 401", value, w.Code)
		}
		from := s.do("receiver", "GET", "/inbox", "").Header().Get("X-From")
		name, err := url.PathUnescape(from)
		if sent := sentName(value); err != nil || name != norm.NFC.String(sent) || !utf8.ValidString(name) {
			t.Errorf("%q: got X-From %q, want the NFC of %q escaped", value, from, sent)
		}
		for _, c := range []byte(from) {
			if c < 0x21 || c > 0x7e {
				t.Errorf("%q: got X-From %q, want visible ASCII", value, from)
			}
		}
	})
}

// sentName returns the name in an Authorization field that was accepted. Request.BasicAuth
// accepts one space only.
func sentName(field string) string {
	_, encoded, _ := strings.Cut(field, " ")
	pair, _ := base64.StdEncoding.DecodeString(strings.Trim(encoded, " "))
	name, _, _ := strings.Cut(string(pair), ":")
	return name
}

// FuzzQuery sends arbitrary query strings with every method. There is no panic, no
// status outside the protocol, and no message to another recipient.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "to=bob", "to=bob&to=bob", "to=%zz", "wait=0", "wait=-1", "after=", "after=1&wait=0", "to=bob&wait=1e9", "to=b;ob", "&&=&", "to=%E2%80%AE", "to=bo%CC%88b", "after=99999999999999999999999",
		"client=phone", "client=phone&resume=1&wait=0", "resume=1", "client=%zz", "client=a&client=b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.PollTimeout = 0 })
		for _, method := range []string{"GET", "POST", "DELETE", "GET"} {
			r := request("bob", method, "/inbox", "hello")
			r.URL.RawQuery = query
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			switch w.Code {
			case 200, 204, 400, 404:
			default:
				t.Errorf("%s %q: got %d", method, query, w.Code)
			}
			if w.Code == 200 && method == http.MethodGet && w.Body.String() != "hello" {
				t.Errorf("%s %q: got %q, want hello", method, query, w.Body)
			}
		}
	})
}

// FuzzContentType sends arbitrary Content-Type fields. The receiver gets one of the
// few that a browser does not act on.
func FuzzContentType(f *testing.F) {
	for _, seed := range []string{"", "text/plain", "text/plain; charset=utf-8", "text/html", "application/json;x=\"y\"", "a/b;;", "text/plain;charset*=utf-8''%41"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		s := newRig(t, nil)
		s.do("bob", "GET", "/inbox?wait=0", "")
		r := request("alice", "POST", "/inbox?to=bob", "hello")
		r.Header["Content-Type"] = []string{sent}
		s.ServeHTTP(httptest.NewRecorder(), r)
		got := s.do("bob", "GET", "/inbox", "").Header().Get("Content-Type")
		base, _, _ := strings.Cut(got, ";")
		switch base {
		case "text/plain", "application/json", "application/sdp", "application/trickle-ice-sdpfrag", "application/octet-stream":
		default:
			t.Errorf("%q: got %q", sent, got)
		}
		if strings.ContainsAny(got, "\r\n\x00") {
			t.Errorf("%q: got %q, want no control character", sent, got)
		}
	})
}
