// Package public serves web pages: either those embedded in the program, which put a
// camera on another screen, or the files of a directory. It is independent of
// mailboxes.
//
// The embedded pages have a security policy that forbids inline code and requests to
// other hosts. A directory is served without a policy: its content is up to the
// operator.
package public

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"

	"inbox/internal/problem"
)

// The patterns match only what a browser needs, so that types, tests and Go files
// stay out of the binary.
//
//go:embed *.html *.css *.js *.svg *.ico *.png *.txt *.webmanifest bundles/*.css bundles/*.js third-party/*.js third-party/*.txt
var files embed.FS

const (
	indexName    = "index.html"
	notFoundName = "404.html"
	faviconName  = "favicon.ico"
)

// Options configures a handler. The zero value is ready to use.
type Options struct {
	// AllowOrigin sets the CORS fields of the response if pages of the origin in the
	// request can import the modules of this server. It is called for every response
	// to a module, errors included, and must be safe for concurrent use. If it is nil,
	// no other site can import them.
	AllowOrigin func(http.ResponseWriter, *http.Request)

	// Logger receives warnings about the directory; nil discards them.
	Logger *slog.Logger
}

func (o Options) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
}

// allowOrigin sets the CORS fields of a module.
func (o Options) allowOrigin(w http.ResponseWriter, r *http.Request) {
	if o.AllowOrigin != nil && IsModule(r.URL.Path) {
		o.AllowOrigin(w, r)
	}
}

// IsModule reports whether a page can import the file at a path: a JavaScript module, or
// a file that one can import.
func IsModule(urlPath string) bool {
	switch strings.ToLower(path.Ext(urlPath)) {
	case ".css", ".js", ".json", ".mjs", ".wasm":
		return true
	}
	return false
}

// Embedded returns a handler of the pages embedded in the program. It is safe for
// concurrent use.
func Embedded(o Options) http.Handler {
	return embeddedPages{pages: loadEmbedded(), options: o}
}

type embeddedPages struct {
	pages   embedded
	options Options
}

// embedded holds all pages by their path without the leading slash.
type embedded map[string]page

// page is a file with its response headers.
type page struct {
	mediaType string
	body      []byte
	encodings *encodings
}

// loadEmbedded returns all pages, which all handlers share. It panics on an error, which
// only a build mistake can cause and every test of this package would detect.
var loadEmbedded = sync.OnceValue(func() embedded {
	e := embedded{}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := files.ReadFile(name)
		if err == nil {
			e[name] = newPage(name, body)
		}
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("read the embedded pages: %v", err))
	}
	return e
})

func newPage(name string, body []byte) page {
	sum := sha256.Sum256(body)
	return page{
		mediaType: mediaTypes[path.Ext(name)],
		body:      body,
		encodings: newEncodings(hex.EncodeToString(sum[:12]), body),
	}
}

func (e embeddedPages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setSecurityHeaders(w.Header())
	if e.options.AllowOrigin != nil && IsModule(r.URL.Path) {
		w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	}
	e.options.allowOrigin(w, r)
	if !problem.RequireGetOrHead(w, r) {
		return
	}
	if module, ok := e.pages.clientModule(r.URL.Path); ok {
		module.serveClientModule(w, r)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" {
		name = indexName
	}
	p, ok := e.pages[name]
	if !ok || name == notFoundName {
		e.pages.notFound(w, r)
		return
	}
	p.serve(w, r)
}

// serve sends the whole page, or 304 to a client that has it. The pages are too small
// for ranges, and have no modification time.
func (p page) serve(w http.ResponseWriter, r *http.Request) {
	body := p.negotiate(w, r)
	h := w.Header()
	h.Set("Etag", body.etag)
	if matchesETag(r, body.etag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Accept-Ranges", "none")
	p.write(w, r, http.StatusOK, body)
}

// negotiate selects the coding of the response and sets its header fields.
func (p page) negotiate(w http.ResponseWriter, r *http.Request) *representation {
	if !compressible[p.mediaType] {
		return p.encodings.in(identity)
	}
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	c, body := p.encodings.negotiate(r.Header)
	if c != identity {
		h.Set("Content-Encoding", string(c))
	}
	return body
}

func (p page) write(w http.ResponseWriter, r *http.Request, status int, body *representation) {
	h := w.Header()
	h.Set("Content-Type", p.mediaType)
	h.Set("Content-Length", strconv.Itoa(len(body.body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body.body)
	}
}

func (e embedded) notFound(w http.ResponseWriter, r *http.Request) {
	p := e[notFoundName]
	p.write(w, r, http.StatusNotFound, p.negotiate(w, r))
}
