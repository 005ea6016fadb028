package public

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"inbox/internal/problem"
)

// Dir returns a handler that serves the regular files below a directory. For a
// directory it serves index.html and never a listing. It answers 404 for files that are
// probably private: dotfiles, Go source, keys and certificates, targets of symbolic
// links outside the directory, and files that other users of the machine cannot read.
// A warning tells how many files of the last kind exist.
//
// The directory is opened once: if it is replaced by another one, the program must be
// restarted. Files inside it can change at any time.
func Dir(name string, o Options) (http.Handler, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("open pages directory: %w", err)
	}
	withheld := &withheldLog{log: o.logger()}
	withheld.add(countPrivate(root), time.Now())
	return dir{root: root, options: o, embedded: loadEmbedded(), withheld: withheld}, nil
}

type dir struct {
	root     *os.Root
	options  Options
	embedded embedded
	withheld *withheldLog
}

func (d dir) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	d.options.allowOrigin(w, r)
	if !problem.RequireGetOrHead(w, r) {
		return
	}
	file, info, err := d.open(r.URL.Path)
	if errors.Is(err, errPrivate) {
		d.withheld.add(1, time.Now())
	}
	var redirectTo errMissingSlash
	switch {
	case errors.As(err, &redirectTo):
		redirect(w, r, string(redirectTo))
	case err != nil && r.URL.Path == "/"+faviconName:
		// Browsers request this file from every site and log an error without it.
		d.embedded[faviconName].serve(w, r)
	case err != nil:
		d.serveMissing(w, r)
	default:
		defer file.Close()
		serveFile(w, r, file, info)
	}
}

// serveMissing serves a path without a file: the modules of the client are always available.
func (d dir) serveMissing(w http.ResponseWriter, r *http.Request) {
	if module, ok := d.embedded.clientModule(r.URL.Path); ok {
		module.serveClientModule(w, r)
		return
	}
	pageNotFound.Respond(w, r)
}

// errMissingSlash reports the path of a directory without the final slash, which
// relative links require. Its value is the relative redirect target.
type errMissingSlash string

func (errMissingSlash) Error() string { return "path of a directory without the final slash" }

// errNotPublic reports a path that is not served, whether or not the file exists.
var errNotPublic = errors.New("not a public file")

// errPrivate reports a file that exists but is private by its permissions or content.
var errPrivate = errors.New("private file")

// open opens the file for a URL path. All errors except errMissingSlash become the same
// 404, so that they do not reveal what exists.
func (d dir) open(urlPath string) (*os.File, fs.FileInfo, error) {
	name, slash := cutPath(urlPath)
	if !isPublic(name) {
		return nil, nil, errNotPublic
	}
	file, info, err := d.openNonblock(name)
	if err == nil && info.IsDir() {
		file.Close()
		if !othersCanRead(d.root, name, info) {
			return nil, nil, errPrivate
		}
		if !slash {
			return nil, nil, errMissingSlash(path.Base(name) + "/")
		}
		name, slash = path.Join(name, indexName), false
		file, info, err = d.openNonblock(name)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := d.checkFile(name, slash, file, info); err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// checkFile returns an error for an open file that must not be served.
func (d dir) checkFile(name string, slash bool, file io.ReaderAt, info fs.FileInfo) error {
	switch {
	case slash || !info.Mode().IsRegular():
		return errNotPublic
	case !othersCanRead(d.root, name, info) || containsPrivateKey(file):
		return errPrivate
	}
	return nil
}

// openNonblock opens a file without blocking: a plain open of a FIFO waits for a
// writer. It examines the open file rather than the name, which can refer to another
// file a moment later.
func (d dir) openNonblock(name string) (*os.File, fs.FileInfo, error) {
	file, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// cutPath converts a URL path to a name below the root and reports whether the path
// ended in a slash. The root itself counts as ending in one.
func cutPath(urlPath string) (name string, slash bool) {
	name = strings.TrimPrefix(urlPath, "/")
	if name == "" {
		return ".", true
	}
	return strings.CutSuffix(name, "/")
}

// redirect redirects to a relative path, so that it works behind a proxy that strips a
// prefix and can never lead to another host.
func redirect(w http.ResponseWriter, r *http.Request, to string) {
	to = (&url.URL{Path: "./" + to}).EscapedPath()
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusMovedPermanently)
}

func serveFile(w http.ResponseWriter, r *http.Request, file *os.File, info fs.FileInfo) {
	if mediaType, ok := mediaTypes[strings.ToLower(path.Ext(info.Name()))]; ok {
		w.Header().Set("Content-Type", mediaType)
	}
	http.ServeContent(w, cheapConditions(r), info.Name(), info.ModTime(), file)
}
