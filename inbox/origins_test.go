package inbox_test

import (
	"strings"
	"testing"

	"inbox/inbox"
)

func TestOtherSites(t *testing.T) {
	const (
		origin = "Origin: https://site.example"
		cross  = "Sec-Fetch-Site: cross-site"
		cors   = "Sec-Fetch-Mode: cors"
	)
	rows := []struct {
		name    string
		header  []string
		closed  bool // allowed without any CORS option
		listed  bool // allowed with Origins https://site.example
		anyone  bool // allowed with AnyOrigin
		exposed bool // Access-Control-Allow-Origin, where allowed
	}{
		{"no browser", nil, true, true, true, false},
		{"own page", []string{"Sec-Fetch-Site: same-origin", "Origin: http://example.com"}, true, true, true, false},
		{"own page behind a proxy that changes the host", []string{"Sec-Fetch-Site: same-origin", "Origin: https://other"}, true, true, true, false},
		{"own page in an old browser", []string{"Origin: http://example.com"}, true, true, true, false},
		{"another port of the host", []string{"Origin: http://example.com:81"}, false, false, true, true},
		{"address bar", []string{"Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"}, true, true, true, false},
		{"a site's script", []string{cross, cors, origin}, false, true, true, true},
		{"an old browser's script", []string{origin}, false, true, true, true},
		{"another host of the domain", []string{"Sec-Fetch-Site: same-site", cors, origin}, false, true, true, true},
		{"an unlisted site's script", []string{cross, cors, "Origin: https://evil.example"}, false, false, true, true},
		{"a script without origin", []string{cross, cors, "Origin: null"}, false, false, true, true},
		{"a listed name over http", []string{cross, cors, "Origin: http://site.example"}, false, false, true, true},
		{"an image", []string{cross, "Sec-Fetch-Mode: no-cors"}, false, false, false, false},
		{"a form", []string{cross, "Sec-Fetch-Mode: navigate", origin}, false, false, false, false},
		{"a link", []string{cross, "Sec-Fetch-Mode: navigate"}, false, false, false, false},
		{"unknown value", []string{"Sec-Fetch-Site: whatever"}, false, false, true, false},
		{"malformed origin", []string{"Origin: ://"}, false, false, true, true},
	}
	for _, row := range rows {
		for option, want := range map[string]bool{"": row.closed, "list": row.listed, "any": row.anyone} {
			s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) {
				c.AnyOrigin = option == "any"
				if option == "list" {
					c.Origins = []string{"https://Site.example"}
				}
			})
			for _, target := range []string{"/inbox?wait=0", "/ice"} {
				w := s.do("bob", "GET", target, "", row.header...)
				if got := w.Code != 403; got != want {
					t.Errorf("%s, %q, %s: got %d, want allowed %v", row.name, option, target, w.Code, want)
				}
				acao := w.Header().Get("Access-Control-Allow-Origin")
				if row.exposed && want && acao == "" || option == "" && acao != "" {
					t.Errorf("%s, %q: got Allow-Origin %q", row.name, option, acao)
				}
				if w.Header().Get("Access-Control-Allow-Credentials") != "" {
					t.Errorf("%s, %q: credentials are allowed", row.name, option)
				}
			}
		}
	}
}

func TestCORSIsOnEveryResponse(t *testing.T) {
	s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.Origins = []string{"https://site.example"} })
	header := []string{"Origin: https://site.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors"}
	s.do("bob", "GET", "/inbox?wait=0", "")
	for _, row := range []struct {
		status               int
		user, method, target string
	}{
		{204, "bob", "GET", "/inbox?wait=0"},
		{200, "alice", "POST", "/inbox?to=bob"},
		{200, "bob", "GET", "/inbox"},
		{401, "", "GET", "/inbox"},
		{400, "bob", "GET", "/inbox?wait=x"},
		{404, "bob", "POST", "/inbox?to=nobody"},
		{405, "bob", "PUT", "/inbox"},
		{204, "bob", "OPTIONS", "/inbox"},
	} {
		w := s.do(row.user, row.method, row.target, "", header...)
		h := w.Header()
		if w.Code != row.status || h.Get("Access-Control-Allow-Origin") != "https://site.example" || h.Get("Vary") != "Origin" {
			t.Errorf("%+v: got %d and %v", row, w.Code, h)
		}
		for _, name := range []string{"X-From", "X-Message-Id", "X-Poll-Ended", "Retry-After", "RateLimit", "RateLimit-Policy"} {
			if !strings.Contains(h.Get("Access-Control-Expose-Headers"), name) {
				t.Errorf("%+v: %s is not exposed", row, name)
			}
		}
	}
}

func TestPreflight(t *testing.T) {
	s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.AnyOrigin = true })
	w := s.do("", "OPTIONS", "/inbox", "", "Origin: https://site.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors",
		"Access-Control-Request-Method: DELETE", "Access-Control-Request-Headers: authorization")
	s.want(w, 204, "")
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin":  "*",
		"Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
		"Access-Control-Allow-Headers": "Authorization, Content-Type",
		"Access-Control-Max-Age":       "7200",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	s = newRig(t, nil)
	s.wantProblem(s.do("", "OPTIONS", "/inbox", "", "Origin: https://site.example"), 403, "cross-site")
	w = s.do("", "OPTIONS", "/inbox", "")
	s.want(w, 204, "")
	if w.Header().Get("Allow") == "" || w.Header().Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("got %v, want Allow alone", w.Header())
	}
}
