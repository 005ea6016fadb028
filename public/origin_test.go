package public

import (
	"net/http"
	"slices"
	"testing"
)

// allowTeam allows one origin, as inbox.Handler.AllowOrigin does.
func allowTeam(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Origin")
	if origin := r.Header.Get("Origin"); origin == "https://team.example" {
		w.Header().Set("Access-Control-Allow-Origin", origin)
	}
}

func TestModulesOfAllowedOrigins(t *testing.T) {
	embeddedPages := Embedded(Options{AllowOrigin: allowTeam})
	root := openDirWith(t, writeFiles(t, map[string]string{"inbox.js": "x", "codec.mjs": "x", "page.html": "x"}), Options{AllowOrigin: allowTeam})
	etag := do(embeddedPages, "GET", "/inbox.js").Header.Get("Etag")
	for _, tt := range []struct {
		name, method, path string
		handler            http.Handler
		fields             []string
		status             int
		module             bool
	}{
		{"module", "GET", "/inbox.js", embeddedPages, nil, 200, true},
		{"imported module", "GET", "/codec.js", embeddedPages, nil, 200, true},
		{"nested module", "GET", "/third-party/uqr.js", embeddedPages, nil, 200, true},
		{"HEAD", "HEAD", "/peer.js", embeddedPages, nil, 200, true},
		{"not modified", "GET", "/inbox.js", embeddedPages, []string{"If-None-Match", etag}, 304, true},
		{"missing module", "GET", "/missing.js", embeddedPages, nil, 404, true},
		{"wrong method", "POST", "/inbox.js", embeddedPages, nil, 405, true},
		{"page", "GET", "/send.html", embeddedPages, nil, 200, false},
		{"front page", "GET", "/", embeddedPages, nil, 200, false},
		{"module in a directory", "GET", "/inbox.js", root, nil, 200, true},
		{"other extension in a directory", "GET", "/codec.mjs", root, nil, 200, true},
		{"range in a directory", "GET", "/codec.mjs", root, []string{"Range", "bytes=9-"}, 416, true},
		{"missing in a directory", "GET", "/missing.js", root, nil, 404, true},
		{"page in a directory", "GET", "/page.html", root, nil, 200, false},
	} {
		for origin, allowed := range map[string]bool{"https://team.example": true, "https://other.example": false, "": false} {
			fields := tt.fields
			if origin != "" {
				fields = append([]string{"Origin", origin}, fields...)
			}
			answer := do(tt.handler, tt.method, tt.path, fields...)
			wantStatus(t, answer, tt.status)
			want := ""
			if tt.module && allowed {
				want = origin
			}
			if got := answer.Header.Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("%s, origin %q: got Access-Control-Allow-Origin %q, want %q", tt.name, origin, got, want)
			}
			if got := answer.Header.Values("Vary"); slices.Contains(got, "Origin") != tt.module {
				t.Errorf("%s, origin %q: got Vary %q, want Origin in it: %t", tt.name, origin, got, tt.module)
			}
		}
	}
}

func TestResourcePolicyOfModules(t *testing.T) {
	for _, tt := range []struct {
		options      Options
		path, policy string
	}{
		{Options{}, "/inbox.js", "same-origin"},
		{Options{AllowOrigin: allowTeam}, "/inbox.js", "cross-origin"},
		{Options{AllowOrigin: allowTeam}, "/", "same-origin"},
		{Options{AllowOrigin: allowTeam}, "/favicon.svg", "same-origin"},
	} {
		if got := do(Embedded(tt.options), "GET", tt.path).Header.Get("Cross-Origin-Resource-Policy"); got != tt.policy {
			t.Errorf("%s: got Cross-Origin-Resource-Policy %q, want %q", tt.path, got, tt.policy)
		}
	}
}
