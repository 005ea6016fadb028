package operator

import (
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"time"
)

// The patterns omit what only the type checker reads.
//
//go:embed page/*.html page/*.css page/*.js page/*.svg
var files embed.FS

// StatusPath is the path of the state as JSON.
const StatusPath = "/status.json"

// contentSecurityPolicy allows only files of this listener, and no inline script or style. No
// script turns text into HTML or code, so the browser blocks every attempt (Trusted Types).
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// mediaTypes are independent of the table of the system, which can map JavaScript to text.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// Handlers returns the handlers of the page, of its files and of the JSON by their paths. They
// expect GET or HEAD.
func (o *Operator) Handlers() map[string]http.HandlerFunc {
	handlers := map[string]http.HandlerFunc{StatusPath: o.serveStatus}
	entries, err := files.ReadDir("page")
	if err != nil {
		panic(err) // the directory is embedded
	}
	for _, e := range entries {
		name := "/" + e.Name()
		if name == "/index.html" {
			name = "/"
		}
		handlers[name] = fileHandler(e.Name())
	}
	return handlers
}

// fileHandler returns the handler of an embedded file. no-cache requires revalidation, so that
// the page of a new version appears at once.
func fileHandler(name string) http.HandlerFunc {
	content, err := files.ReadFile("page/" + name)
	if err != nil {
		panic(err)
	}
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256(content))
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		setSecurityHeaders(h)
		h.Set("Cache-Control", "no-cache")
		h.Set("Content-Type", mediaTypes[path.Ext(name)])
		h.Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content)
	}
}

// setSecurityHeaders keeps pages of other sites from reading or embedding the response.
func setSecurityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
}

func (o *Operator) serveStatus(w http.ResponseWriter, _ *http.Request) {
	setSecurityHeaders(w.Header())
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(o.Status(time.Now())) // fails only if the client is gone
}
