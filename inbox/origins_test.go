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

const (
	chromeAgent  = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
	firefoxAgent = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
	imageAccept  = "Accept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
	pageAccept   = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
)

// TestElementsWithoutFetchMetadata checks requests as browsers send them over plain HTTP,
// where they leave out Sec-Fetch-Site: what another site's page embeds must not take a
// message with a remembered login.
func TestElementsWithoutFetchMetadata(t *testing.T) {
	const elsewhere, own = "Referer: http://site.example/", "Referer: http://example.com/watch"
	for _, row := range []struct {
		name, method string
		header       []string
		allowed      bool
	}{
		{"img", "GET", []string{chromeAgent, imageAccept, elsewhere}, false},
		{"img without Referer", "GET", []string{chromeAgent, imageAccept}, false},
		{"img of an unknown browser", "GET", []string{imageAccept}, false},
		{"img in Firefox", "GET", []string{firefoxAgent, "Accept: image/png,image/*;q=0.8,*/*;q=0.5"}, false},
		{"script", "GET", []string{chromeAgent, "Accept: */*", elsewhere}, false},
		{"script without Referer", "GET", []string{chromeAgent, "Accept: */*"}, false},
		{"script of a reloaded page", "GET", []string{firefoxAgent, "Accept: */*", "Cache-Control: max-age=0"}, false},
		{"style sheet", "GET", []string{chromeAgent, "Accept: text/css,*/*;q=0.1"}, false},
		{"iframe", "GET", []string{chromeAgent, pageAccept, elsewhere}, false},
		{"iframe without Referer", "GET", []string{chromeAgent, pageAccept}, false},
		{"audio in Chromium", "GET", []string{chromeAgent, "Accept: */*", "Range: bytes=0-", elsewhere}, false},
		{"audio in Chromium without Referer", "GET", []string{chromeAgent, "Accept: */*", "Range: bytes=0-"}, false},
		{"audio in Firefox", "GET", []string{firefoxAgent, "Accept: audio/webm,audio/ogg,audio/*;q=0.9,*/*;q=0.5"}, false},
		{"video", "GET", []string{firefoxAgent, "Accept: video/webm,video/*;q=0.9,*/*;q=0.5"}, false},
		{"form", "POST", []string{chromeAgent, pageAccept, "Content-Type: text/plain", elsewhere, "Origin: http://site.example"}, false},
		{"form of a sandboxed frame", "POST", []string{chromeAgent, pageAccept, "Content-Type: text/plain", "Origin: null"}, false},
		{"form in an old browser", "POST", []string{chromeAgent, pageAccept, "Content-Type: text/plain", elsewhere}, false},
		{"form in an old browser without Referer", "POST", []string{chromeAgent, pageAccept, "Content-Type: text/plain"}, false},
		{"Referer of another port", "GET", []string{chromeAgent, "Accept: */*", "Referer: http://example.com:81/"}, false},
		{"Referer that is no URL", "GET", []string{chromeAgent, "Accept: */*", "Referer: ://"}, false},

		{"own fetch", "GET", []string{chromeAgent, "Accept: */*", "Cache-Control: no-cache", "Pragma: no-cache"}, true},
		{"own fetch with Referer", "GET", []string{chromeAgent, "Accept: */*", own}, true},
		{"own POST", "POST", []string{chromeAgent, "Accept: */*", "Origin: http://example.com"}, true},
		{"curl", "GET", []string{"User-Agent: curl/8.0", "Accept: */*"}, true},
		{"wget", "GET", []string{"User-Agent: Wget/1.21", "Accept: */*", "Accept-Encoding: identity"}, true},
		{"http.client", "GET", []string{"Accept-Encoding: identity"}, true},
		{"requests", "GET", []string{"User-Agent: python-requests/2.28", "Accept: */*", "Accept-Encoding: gzip, deflate"}, true},
		{"aiohttp", "GET", []string{"User-Agent: Python/3.11 aiohttp/3.8", "Accept: */*"}, true},
		{"Node's fetch", "GET", []string{"User-Agent: node", "Accept: */*", "Accept-Language: *", "Sec-Fetch-Mode: cors"}, true},
		{"Go", "GET", []string{"User-Agent: Go-http-client/1.1", "Accept-Encoding: gzip"}, true},
		{"Java's HttpURLConnection", "GET", []string{"User-Agent: Java/17.0.1", "Accept: text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"}, true},
		{"Java's HttpClient", "GET", []string{"User-Agent: Java-http-client/17.0.1"}, true},
		{"PowerShell", "GET", []string{"User-Agent: Mozilla/5.0 (Windows NT 10.0; en-US) WindowsPowerShell/5.1"}, true},
	} {
		for _, anyOrigin := range []bool{false, true} {
			s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.AnyOrigin = anyOrigin })
			s.want(s.do("bob", "POST", "/inbox?to=bob", "a message"), 200, "")
			w := s.do("bob", row.method, "/inbox?wait=0&to=bob", "hello", row.header...)
			if got := w.Code == 200; got != row.allowed {
				t.Errorf("%s, any origin %v: got %d, want allowed %v", row.name, anyOrigin, w.Code, row.allowed)
			}
			if !row.allowed {
				s.wantProblem(w, 403, "cross-site")
				s.want(s.do("bob", "GET", "/inbox?wait=0", ""), 200, "a message")
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
		"Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID, Inbox-Invite, traceparent, tracestate, baggage, sentry-trace",
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
