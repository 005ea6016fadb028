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

// Dir returns a handler that serves the regular files below a directory. For a
// directory it serves index.html and never a listing. It answers 404 for files that are
// probably private: dotfiles, Go source, keys and certificates, and targets of symbolic
// links outside the directory.
//
// The directory is opened once: if it is replaced by another one, the program must be
// restarted. Files inside it can change at any time.
func Dir(name string) (http.Handler, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("open pages directory: %w", err)
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
		// Browsers request this file from every site and log an error without it.
		d.favicon.serve(w, r)
	case err != nil:
		http.Error(w, "page not found", http.StatusNotFound)
	default:
		defer file.Close()
		serveFile(w, r, file, info)
	}
}

// errMissingSlash reports the path of a directory without the final slash, which
// relative links require. Its value is the relative redirect target.
type errMissingSlash string

func (errMissingSlash) Error() string { return "path of a directory without the final slash" }

// errNotPublic reports a path that is not served, whether or not the file exists.
var errNotPublic = errors.New("not a public file")

// open opens the file for a URL path. All errors except errMissingSlash become the same
// 404, so that they do not reveal what exists.
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

func requireRegular(file *os.File, info fs.FileInfo) (*os.File, fs.FileInfo, error) {
	if !info.Mode().IsRegular() || containsPrivateKey(file) {
		file.Close()
		return nil, nil, errNotPublic
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

// isPublic reports whether a name can be served. fs.ValidPath rejects empty and dot
// elements, so no name leaves the root; os.Root enforces this as well.
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

// privateExts are the extensions of files that are sensitive in a directory published
// by mistake. Certificates are public, but they reveal where to look for their keys.
var privateExts = map[string]bool{
	".go": true, ".cer": true, ".crt": true, ".csr": true, ".der": true,
	".jks": true, ".kdbx": true, ".key": true, ".keystore": true, ".p12": true,
	".p7b": true, ".p8": true, ".pem": true, ".pfx": true, ".pk8": true, ".ppk": true,
}

// containsPrivateKey reports whether a file begins with a private key in PEM, whatever
// its name: backups of keys often have other extensions.
func containsPrivateKey(file io.ReaderAt) bool {
	start := make([]byte, 512)
	n, err := file.ReadAt(start, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return true // unreadable: do not serve it
	}
	start = bytes.TrimLeft(bytes.TrimPrefix(start[:n], []byte("\xef\xbb\xbf")), " \t\r\n")
	line, _, _ := bytes.Cut(start, []byte("\n"))
	return bytes.HasPrefix(line, []byte("-----BEGIN ")) && bytes.Contains(line, []byte("PRIVATE KEY")) ||
		bytes.HasPrefix(line, []byte("Bag Attributes")) // written by openssl pkcs12 before its keys
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
	http.ServeContent(w, r, info.Name(), info.ModTime(), file)
}
