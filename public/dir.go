package public

import (
	"bytes"
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
)

// Dir returns a handler of the regular files below a directory: index.html
// where a directory is asked for, never a listing. What was probably not meant
// to be published is not found: dotfiles, Go source, keys and certificates,
// and whatever a symbolic link reaches outside.
//
// The directory is opened once. Whoever replaces it by another restarts the
// program; files inside it may change at any time.
func Dir(name string) (http.Handler, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("open the directory of pages: %w", err)
	}
	return dir{root: root, favicon: loadEmbedded()[faviconName]}, nil
}

type dir struct {
	root    *os.Root
	favicon page
}

func (d dir) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !requireGetOrHead(w, r) {
		return
	}
	file, info, err := d.open(r.URL.Path)
	var redirectTo errMissingSlash
	switch {
	case errors.As(err, &redirectTo):
		redirect(w, r, string(redirectTo))
	case err != nil && r.URL.Path == "/"+faviconName:
		// Browsers ask every site for this one, and log an error without it.
		d.favicon.serve(w, r)
	case err != nil:
		http.Error(w, "there is no such page", http.StatusNotFound)
	default:
		defer file.Close()
		serveFile(w, r, file, info)
	}
}

// errMissingSlash says that the path is a directory's, without the slash at its end
// that makes relative links work. Its value is where to go, relative.
type errMissingSlash string

func (errMissingSlash) Error() string { return "the path lacks its final slash" }

// errNotPublic is for what exists, perhaps, but is not shown.
var errNotPublic = errors.New("not a public file")

// open finds the file that a URL path names. Every error but errMoved is the
// same to a stranger: there is no such page.
func (d dir) open(urlPath string) (*os.File, fs.FileInfo, error) {
	name, slash := cutPath(urlPath)
	if !isPublic(name) {
		return nil, nil, errNotPublic
	}
	file, info, err := d.openNonblock(name)
	switch {
	case err != nil:
		return nil, nil, err
	case info.IsDir() && !slash:
		file.Close()
		return nil, nil, errMissingSlash(path.Base(name) + "/")
	case info.IsDir():
		file.Close()
		file, info, err = d.openNonblock(path.Join(name, indexName))
	case slash:
		file.Close()
		return nil, nil, errNotPublic
	}
	if err != nil {
		return nil, nil, err
	}
	return requireRegular(file, info)
}

// openNonblock opens without waiting: a plain open of a FIFO would block until
// somebody writes to it. The kind is asked of the open file, not of its name,
// which may mean something else a moment later.
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

func requireRegular(file *os.File, info fs.FileInfo) (*os.File, fs.FileInfo, error) {
	if !info.Mode().IsRegular() || containsPrivateKey(file) {
		file.Close()
		return nil, nil, errNotPublic
	}
	return file, info, nil
}

// cutPath turns a URL path into a name below the root, and says whether it
// ended in a slash, as the root's own always does.
func cutPath(urlPath string) (name string, slash bool) {
	name = strings.TrimPrefix(urlPath, "/")
	if name == "" {
		return ".", true
	}
	return strings.CutSuffix(name, "/")
}

// isPublic judges a name by itself. fs.ValidPath refuses empty and dot
// elements, so nothing here climbs; os.Root would refuse it once more.
func isPublic(name string) bool {
	if name == "." {
		return true
	}
	if !fs.ValidPath(name) || strings.ContainsAny(name, "\\:\x00") {
		return false
	}
	for element := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(element, ".") {
			return false
		}
	}
	return !privateExts[strings.ToLower(path.Ext(name))]
}

// privateExts are the kinds of file that a directory served by mistake is
// most regretted for. Certificates are public, but they lie beside their keys
// and tell a stranger where to look.
var privateExts = map[string]bool{
	".go": true, ".cer": true, ".crt": true, ".csr": true, ".der": true,
	".jks": true, ".kdbx": true, ".key": true, ".keystore": true, ".p12": true,
	".p7b": true, ".p8": true, ".pem": true, ".pfx": true, ".pk8": true, ".ppk": true,
}

// containsPrivateKey reports whether a file begins with a private key in PEM, whatever
// it is called; a backup of one often has another ending.
func containsPrivateKey(file io.ReaderAt) bool {
	start := make([]byte, 512)
	n, err := file.ReadAt(start, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return true // what cannot be judged is not shown
	}
	start = bytes.TrimLeft(bytes.TrimPrefix(start[:n], []byte("\xef\xbb\xbf")), " \t\r\n")
	line, _, _ := bytes.Cut(start, []byte("\n"))
	return bytes.HasPrefix(line, []byte("-----BEGIN ")) && bytes.Contains(line, []byte("PRIVATE KEY")) ||
		bytes.HasPrefix(line, []byte("Bag Attributes")) // openssl pkcs12 writes these before its keys
}

// redirect goes to a relative place, so that it holds behind a proxy that cut
// a prefix off, and can never lead to another host.
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
	http.ServeContent(w, r, info.Name(), info.ModTime(), file)
}
