package public

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
)

// do sends one request to h; more is a list of header names and values.
func do(h http.Handler, method, target string, more ...string) *http.Response {
	r := httptest.NewRequest(method, "/", nil)
	r.URL.Path = target
	for i := 0; i < len(more); i += 2 {
		r.Header.Add(more[i], more[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t *testing.T, answer *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func wantStatus(t *testing.T, answer *http.Response, want int) {
	t.Helper()
	if answer.StatusCode != want {
		t.Fatalf("got status %d, want %d", answer.StatusCode, want)
	}
}

func TestEmbeddedPages(t *testing.T) {
	pages := Embedded(Options{})
	for _, tt := range []struct{ path, mediaType, contains string }{
		{"/", "text/html; charset=utf-8", "See each other"},
		{"/index.html", "text/html; charset=utf-8", "See each other"},
		{"/call.html", "text/html; charset=utf-8", "Hang up"},
		{"/send.html", "text/html; charset=utf-8", "microphone"},
		{"/receive.html", "text/html; charset=utf-8", "Full screen"},
		{"/inbox.js", "text/javascript; charset=utf-8", "export class Inbox"},
		{"/peer.js", "text/javascript; charset=utf-8", "export class Peer"},
		{"/seal.js", "text/javascript; charset=utf-8", "export class Sealer"},
		{"/code-owner.js", "text/javascript; charset=utf-8", "export class CodeOwner"},
		{"/code-joiner.js", "text/javascript; charset=utf-8", "export class CodeJoiner"},
		{"/style.css", "text/css; charset=utf-8", "--paper"},
		{"/favicon.svg", "image/svg+xml", "<svg"},
		{"/favicon.ico", "image/x-icon", "PNG"},
		{"/icon-192.png", "image/png", "PNG"},
		{"/inbox.webmanifest", "application/manifest+json", "icon-maskable-512.png"},
		{"/language.js", "text/javascript; charset=utf-8", "navigator.languages"},
		{"/robots.txt", "text/plain; charset=utf-8", "User-agent"},
		{"/third-party/uqr.js", "text/javascript; charset=utf-8", "uqr"},
		{"/third-party/uqr.LICENSE.txt", "text/plain; charset=utf-8", "MIT License"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			answer := do(pages, "GET", tt.path)
			wantStatus(t, answer, http.StatusOK)
			if got := answer.Header.Get("Content-Type"); got != tt.mediaType {
				t.Errorf("got Content-Type %q, want %q", got, tt.mediaType)
			}
			if body := bodyOf(t, answer); !strings.Contains(body, tt.contains) {
				t.Errorf("got a body without %q, want it to contain that", tt.contains)
			}
		})
	}
}

// wantProblem checks a problem document.
func wantProblem(t *testing.T, answer *http.Response, status int, kind string) {
	t.Helper()
	wantStatus(t, answer, status)
	body := bodyOf(t, answer)
	if got := answer.Header.Get("Content-Type"); got != "application/problem+json" || !strings.Contains(body, `"urn:inbox:problem:`+kind+`"`) {
		t.Errorf("got %s %q, want a problem document of type %s", got, body, kind)
	}
}

func TestEmbeddedRefusesOtherMethods(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		answer := do(Embedded(Options{}), method, "/")
		wantProblem(t, answer, http.StatusMethodNotAllowed, "method-not-allowed")
		if got := answer.Header.Get("Allow"); got != "GET, HEAD" {
			t.Errorf("%s: got Allow %q, want GET, HEAD", method, got)
		}
	}
}

func TestEmbeddedSetsSecurityHeaders(t *testing.T) {
	pages := Embedded(Options{})
	for _, request := range [][2]string{{"GET", "/"}, {"HEAD", "/send.html"}, {"GET", "/nothing"}} {
		h := do(pages, request[0], request[1]).Header
		for name, want := range map[string]string{
			"Cache-Control":                "no-cache",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Referrer-Policy":              "no-referrer",
			"X-Content-Type-Options":       "nosniff",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%v: got %s %q, want %q", request, name, got, want)
			}
		}
		csp := "; " + h.Get("Content-Security-Policy") + ";"
		for _, want := range []string{
			"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "manifest-src 'self'",
			"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
			"require-trusted-types-for 'script'", "trusted-types 'none'",
		} {
			if !strings.Contains(csp, "; "+want+";") || strings.Contains(csp, "unsafe") {
				t.Errorf("%v: got Content-Security-Policy %q, want %s in it", request, csp, want)
			}
		}
		if got := h.Get("Permissions-Policy"); !strings.Contains(got, "camera=(self), microphone=(self)") {
			t.Errorf("%v: got Permissions-Policy %q, want camera and microphone for self", request, got)
		}
	}
}

func TestEmbeddedMethods(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
		answer := do(Embedded(Options{}), method, "/")
		wantStatus(t, answer, http.StatusMethodNotAllowed)
		if got := answer.Header.Get("Allow"); got != "GET, HEAD" {
			t.Errorf("%s: got Allow %q, want GET, HEAD", method, got)
		}
	}
	answer := do(Embedded(Options{}), "HEAD", "/")
	wantStatus(t, answer, http.StatusOK)
	if body := bodyOf(t, answer); body != "" || answer.ContentLength <= 0 {
		t.Errorf("HEAD: got a body of %d bytes and Content-Length %d, want no body and a positive length", len(body), answer.ContentLength)
	}
}

func TestEmbeddedNotFound(t *testing.T) {
	for _, path := range []string{
		"/nothing", "/public.go", "/tsconfig.json", "/third-party/uqr.d.ts", "/404.html", "/third-party", "/third-party/",
		"//index.html", "/./index.html", "/../public/index.html", "/send.html/", "/INDEX.HTML", "/\x00",
	} {
		answer := do(Embedded(Options{}), "GET", path)
		if answer.StatusCode != http.StatusNotFound {
			t.Errorf("%q: got status %d, want 404", path, answer.StatusCode)
		}
		if !strings.Contains(bodyOf(t, answer), "There is no such page") {
			t.Errorf("%q: got a body other than the 404 page", path)
		}
	}
}

func TestEmbeddedNotModified(t *testing.T) {
	first := do(Embedded(Options{}), "GET", "/inbox.js")
	etag := first.Header.Get("Etag")
	if !regexp.MustCompile(`^"[0-9a-f]{24}"$`).MatchString(etag) {
		t.Fatalf("got ETag %q, want 24 hexadecimal digits", etag)
	}
	wantStatus(t, do(Embedded(Options{}), "GET", "/inbox.js", "If-None-Match", etag), http.StatusNotModified)
	wantStatus(t, do(Embedded(Options{}), "GET", "/peer.js", "If-None-Match", etag), http.StatusOK)
}

// The policy blocks inline code silently, so no page must contain any. Every file that
// a page refers to must be embedded.
func TestPagesObeyTheirPolicy(t *testing.T) {
	inline := regexp.MustCompile(`<script(?:[^>]*)>[^<]|<style|\sstyle=|\son[a-z]+=|javascript:`)
	reference := regexp.MustCompile(`(?:src|href|from|import)[= ]["']([^"'#]+)["']`)
	pages := loadEmbedded()
	for name, p := range pages {
		if !strings.HasSuffix(name, ".html") && !strings.HasSuffix(name, ".js") || strings.HasPrefix(name, "third-party/") {
			continue
		}
		if found := inline.Find(p.body); found != nil && strings.HasSuffix(name, ".html") {
			t.Errorf("%s: inline code at %q", name, found)
		}
		for _, match := range reference.FindAllSubmatch(p.body, -1) {
			target := strings.TrimPrefix(strings.TrimPrefix(string(match[1]), "/"), "./")
			if _, ok := pages[target]; !ok && target != "" {
				t.Errorf("%s: refers to %q, which is not embedded", name, match[1])
			}
		}
	}
}

// Every new file must be embedded, unless it is known not to be a page.
func TestEmbeddedContainsEveryPage(t *testing.T) {
	private := regexp.MustCompile(`(\.go|\.d\.ts|tsconfig\.json|404\.html)$|^testdata|^npm/`)
	pages := loadEmbedded()
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || private.MatchString(name) {
			return err
		}
		if p, ok := pages[name]; !ok || p.mediaType == "" {
			t.Errorf("%s: not embedded, or its media type is unknown", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestManifest checks that the icons exist in the sizes that the manifest names. It is
// served from the directory of the pages, so all its addresses are relative.
func TestManifest(t *testing.T) {
	var manifest struct {
		StartURL string `json:"start_url"`
		Icons    []struct{ Src, Sizes, Type, Purpose string }
	}
	if err := json.Unmarshal(loadEmbedded()["inbox.webmanifest"].body, &manifest); err != nil {
		t.Fatal(err)
	}
	sizes := map[string]bool{}
	for _, icon := range manifest.Icons {
		file, ok := loadEmbedded()[icon.Src]
		if !ok || file.mediaType != icon.Type {
			t.Errorf("%s: not embedded, or not of type %s", icon.Src, icon.Type)
		}
		sizes[icon.Sizes+" "+icon.Purpose] = true
		if icon.Type != "image/png" {
			continue
		}
		config, err := png.DecodeConfig(bytes.NewReader(file.body))
		if got := fmt.Sprintf("%dx%d", config.Width, config.Height); err != nil || got != icon.Sizes {
			t.Errorf("%s: got %s (%v), want %s", icon.Src, got, err, icon.Sizes)
		}
	}
	if manifest.StartURL != "./" || !sizes["192x192 "] || !sizes["512x512 "] || !sizes["512x512 maskable"] {
		t.Errorf("got the start %q and the icons %v, want ./ and 192, 512 and maskable ones", manifest.StartURL, sizes)
	}
}

// A service worker would answer for the server, and keep pages of an old version.
func TestPagesHaveNoServiceWorker(t *testing.T) {
	for name, p := range loadEmbedded() {
		if bytes.Contains(p.body, []byte("serviceWorker")) || bytes.Contains(p.body, []byte("caches.open")) {
			t.Errorf("%s: registers a service worker or uses its cache", name)
		}
	}
}

func BenchmarkEmbedded(b *testing.B) {
	pages := Embedded(Options{})
	r := httptest.NewRequest("GET", "/send.html", nil)
	r.Header.Set("Accept-Encoding", "gzip, deflate, br")
	for b.Loop() {
		w := httptest.NewRecorder()
		pages.ServeHTTP(w, r)
	}
}

func ExampleEmbedded() {
	answer := do(Embedded(Options{}), "GET", "/send.html")
	fmt.Println(answer.StatusCode, answer.Header.Get("Content-Type"))
	// Output: 200 text/html; charset=utf-8
}
