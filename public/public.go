// Package public serves web pages: those compiled into the program, which put
// a camera on another screen, or the files of a directory that the operator
// chose.
//
// It knows nothing of mailboxes. What a caller must know: the embedded pages
// carry a policy so strict that nothing inline runs and no other host is
// asked, while a directory belongs to its owner and is served without one.
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

// The patterns name what a browser needs, so that types, tests and Go files
// stay out of the binary.
//
//go:embed *.html *.css *.js *.svg *.ico *.txt third-party/*.js third-party/*.txt
var files embed.FS

const (
	indexName    = "index.html"
	notFoundName = "404.html"
	faviconName  = "favicon.ico"
)

// Embedded returns a handler of the pages compiled into the program.
func Embedded() http.Handler {
	return loadEmbedded()
}

// embedded holds every page in memory, by its path without the leading slash.
type embedded map[string]page

// page is one file, ready to be written.
type page struct {
	mediaType string
	etag      string
	body      []byte
}

// loadEmbedded panics on an error, which can only mean a program that was
// built wrong; every test of this package would see it.
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

// serve lets net/http decide about conditions and ranges; the time is left
// out because a binary's pages have none that means anything.
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
