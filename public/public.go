// Package public serves web pages: either those embedded in the program, which put a
// camera on another screen, or the files of a directory. It is independent of
// mailboxes.
//
// The embedded pages have a security policy that forbids inline code and requests to
// other hosts. A directory is served without a policy: its content is up to the
// operator.
package public

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// The patterns match only what a browser needs, so that types, tests and Go files
// stay out of the binary.
//
//go:embed *.html *.css *.js *.svg *.ico *.txt third-party/*.js third-party/*.txt
var files embed.FS

const (
	indexName    = "index.html"
	notFoundName = "404.html"
	faviconName  = "favicon.ico"
)

// Embedded returns a handler of the pages embedded in the program. It is safe for
// concurrent use.
func Embedded() http.Handler {
	return loadEmbedded()
}

// embedded holds all pages by their path without the leading slash.
type embedded map[string]page

// page is a file with its response headers.
type page struct {
	mediaType string
	etag      string
	body      []byte
}

// loadEmbedded reads all pages. It panics on an error, which only a build mistake can
// cause and every test of this package would detect.
func loadEmbedded() embedded {
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
}

func newPage(name string, body []byte) page {
	sum := sha256.Sum256(body)
	return page{
		mediaType: mediaTypes[path.Ext(name)],
		etag:      fmt.Sprintf("%x", sum[:12]),
		body:      body,
	}
}

func (e embedded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setSecurityHeaders(w.Header())
	if !requireGetOrHead(w, r) {
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" {
		name = indexName
	}
	p, ok := e[name]
	if !ok || name == notFoundName {
		e.notFound(w, r)
		return
	}
	p.serve(w, r)
}

// serve leaves conditional and range requests to net/http. It passes no modification
// time, because embedded files have none.
func (p page) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", p.mediaType)
	h.Set("Etag", `"`+p.etag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(p.body))
}

func (e embedded) notFound(w http.ResponseWriter, r *http.Request) {
	p := e[notFoundName]
	h := w.Header()
	h.Set("Content-Type", p.mediaType)
	h.Set("Content-Length", fmt.Sprint(len(p.body)))
	w.WriteHeader(http.StatusNotFound)
	if r.Method != http.MethodHead {
		w.Write(p.body)
	}
}
