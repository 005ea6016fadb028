package public

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf16"
)

const pemKey = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n"

// writeFiles creates files below a new directory and returns its path.
func writeFiles(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, body := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func openDir(t testing.TB, root string) http.Handler {
	t.Helper()
	return openDirWith(t, root, Options{})
}

func openDirWith(t testing.TB, root string, o Options) http.Handler {
	t.Helper()
	h, err := Dir(root, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.(dir).root.Close() })
	return h
}

func utf16le(text string) string {
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune(text)) {
		b.Write([]byte{byte(unit), byte(unit >> 8)})
	}
	return b.String()
}

func TestDirServesFiles(t *testing.T) {
	h := openDir(t, writeFiles(t, map[string]string{
		"index.html":     "<h1>home</h1>",
		"app.js":         "let a",
		"App.MJS":        "let b",
		"sub/index.html": "<h1>sub</h1>",
		"sub/notes.txt":  "notes",
		"odd name é":     "<p>odd",
		"begin.txt":      "about -----BEGIN PRIVATE KEY-----",
		"jquery.key.js":  "let c",
		"digits.txt":     "0123456789 abcdefgh",
	}))
	for _, tt := range []struct{ path, mediaType, body string }{
		{"/", "text/html; charset=utf-8", "<h1>home</h1>"},
		{"/index.html", "text/html; charset=utf-8", "<h1>home</h1>"},
		{"/app.js", "text/javascript; charset=utf-8", "let a"},
		{"/App.MJS", "text/javascript; charset=utf-8", "let b"},
		{"/sub/", "text/html; charset=utf-8", "<h1>sub</h1>"},
		{"/sub/notes.txt", "text/plain; charset=utf-8", "notes"},
		{"/odd name é", "text/html; charset=utf-8", "<p>odd"},
		{"/jquery.key.js", "text/javascript; charset=utf-8", "let c"},
		{"/digits.txt", "text/plain; charset=utf-8", "0123456789 abcdefgh"},
		{"/begin.txt", "text/plain; charset=utf-8", "about -----BEGIN PRIVATE KEY-----"},
	} {
		answer := do(h, "GET", tt.path)
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: got status %d, want 200", tt.path, answer.StatusCode)
			continue
		}
		if got := answer.Header.Get("Content-Type"); got != tt.mediaType {
			t.Errorf("%s: got Content-Type %q, want %q", tt.path, got, tt.mediaType)
		}
		if got := bodyOf(t, answer); got != tt.body {
			t.Errorf("%s: got %q, want %q", tt.path, got, tt.body)
		}
	}
}

func TestDirSetsNoSecurityPolicy(t *testing.T) {
	h := openDir(t, writeFiles(t, map[string]string{"index.html": "home"}))
	for _, path := range []string{"/", "/index.html"} {
		header := do(h, "GET", path).Header
		if got := header.Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("%s: got X-Content-Type-Options %q, want nosniff", path, got)
		}
		for _, name := range []string{"Content-Security-Policy", "Permissions-Policy", "Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy"} {
			if got := header.Get(name); got != "" {
				t.Errorf("%s: got %s %q, want none", path, name, got)
			}
		}
	}
	wantProblem(t, do(h, "POST", "/"), http.StatusMethodNotAllowed, "method-not-allowed")
	wantProblem(t, do(h, "GET", "/nothing"), http.StatusNotFound, "not-found")
}

func TestDirHides(t *testing.T) {
	hidden := map[string]string{
		".env": "x", ".git/config": "x", "sub/.htpasswd": "x", ".well-known/x": "x",
		"main.go": "package main", "Main.GO": "x",
		"server.key": "x", "server.crt": "x", "chain.pem": "x", "store.P12": "x", "store.pfx": "x", "id.ppk": "x",
		"backup.key.bak": pemKey, "id_ed25519": strings.ReplaceAll(pemKey, "PRIVATE", "OPENSSH PRIVATE"),
		"blank": "\n \r\n\t" + pemKey, "bom": "\xef\xbb\xbf" + pemKey, "bag": "Bag Attributes\n" + pemKey,
		"server.key.bak": "x", "chain.pem.old.1": "x", "server.KEY~": "x", "#index.html#": "x", "conf.env": "x",
		"first-line": "my key\n" + pemKey, "listing.txt": "Private-Key: (4096 bit)\n" + strings.Repeat("    00:aa:bb:cc:dd\n", 600) + pemKey,
		"old-mac": "my key\r" + pemKey, "indented": "key: |\n  " + pemKey, "utf-16": utf16le("\ufeffx\r\n" + pemKey), "utf-16be": "\xfe\xff" + strings.ReplaceAll("\n"+pemKey, "", "\x00"),
		"putty": "PuTTY-User-Key-File-3: ssh-ed25519\n", "age": "# created: today\nAGE-SECRET-KEY-1QQ\n", "ssh2": "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n",
		"pkcs1": "\x30\x82\x04\xa4\x02\x01\x00\x02\x82\x01\x01\x00abcdef", "sec1": "\x30\x77\x02\x01\x01\x04\x20abcdefghijkl",
		"pkcs12":   "\x30\x82\x04\xa4\x02\x01\x03\x30\x82\x01\x01abcdefgh",
		"pgp.html": strings.ReplaceAll(pemKey, "PRIVATE KEY", "PGP PRIVATE KEY BLOCK"),
	}
	files := map[string]string{"empty/file.txt": "x"}
	for name, body := range hidden {
		files[name] = body
	}
	h := openDir(t, writeFiles(t, files))
	paths := []string{
		"/nothing", "/empty/", "/empty/file.txt/", "/empty/file.txt/x", "//empty/file.txt", "/empty//file.txt", "/./empty/file.txt",
		"/empty/../empty/file.txt", "/../" + "etc/passwd", "/..", "/empty/..", "/\\..\\x", "/empty\\file.txt", "/C:/x", "/\x00", "/empty/file.txt\x00.html",
		"/" + strings.Repeat("a", 5000), "/" + strings.Repeat("empty/", 200), "", "x",
	}
	for name := range hidden {
		paths = append(paths, "/"+name)
	}
	for _, path := range paths {
		answer := do(h, "GET", path)
		if answer.StatusCode != http.StatusNotFound {
			t.Errorf("%.60q: got status %d, want 404", path, answer.StatusCode)
		}
		if body := bodyOf(t, answer); !strings.Contains(body, "urn:inbox:problem:not-found") {
			t.Errorf("%.60q: got body %q, want a problem document", path, body)
		}
	}
}

func TestDirRedirectsToSlash(t *testing.T) {
	h := openDir(t, writeFiles(t, map[string]string{"sub/index.html": "x", "a b?/index.html": "x", "evil.example/index.html": "x"}))
	for path, want := range map[string]string{
		"/sub":          "./sub/",
		"/a b?":         "./a%20b%3F/",
		"/evil.example": "./evil.example/",
	} {
		answer := do(h, "GET", path)
		wantStatus(t, answer, http.StatusMovedPermanently)
		if got := answer.Header.Get("Location"); got != want {
			t.Errorf("%s: got Location %q, want %q", path, got, want)
		}
	}
	wantStatus(t, do(h, "GET", "//evil.example"), http.StatusNotFound)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/sub?room=1&x=%20", nil))
	if got := w.Header().Get("Location"); got != "./sub/?room=1&x=%20" {
		t.Errorf("got Location %q, want the query kept", got)
	}
}

func TestDirServesEmbeddedFavicon(t *testing.T) {
	bare := openDir(t, writeFiles(t, nil))
	answer := do(bare, "GET", "/favicon.ico")
	wantStatus(t, answer, http.StatusOK)
	if got := answer.Header.Get("Content-Type"); got != "image/x-icon" {
		t.Errorf("got Content-Type %q, want image/x-icon", got)
	}
	own := openDir(t, writeFiles(t, map[string]string{"favicon.ico": "own"}))
	if got := bodyOf(t, do(own, "GET", "/favicon.ico")); got != "own" {
		t.Errorf("got %q, want the file in the directory", got)
	}
}

func TestDirRejectsSymlinksOutside(t *testing.T) {
	outside := writeFiles(t, map[string]string{"secret.txt": "secret"})
	root := writeFiles(t, map[string]string{"inside.txt": "inside"})
	for name, target := range map[string]string{
		"file.txt": filepath.Join(outside, "secret.txt"), "directory": outside, "up.txt": "../" + filepath.Base(outside) + "/secret.txt",
		"near.txt": "inside.txt",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	h := openDir(t, root)
	for _, path := range []string{"/file.txt", "/directory/secret.txt", "/up.txt", "/directory/", "/directory"} {
		if got := do(h, "GET", path).StatusCode; got != http.StatusNotFound {
			t.Errorf("%s: got status %d, want 404", path, got)
		}
	}
	wantStatus(t, do(h, "GET", "/near.txt"), http.StatusOK)
}

// Files behind a symbolic link that temporarily replaces a directory must never be
// served.
func TestDirSwappedForALink(t *testing.T) {
	outside := writeFiles(t, map[string]string{"page.txt": "secret"})
	root := writeFiles(t, map[string]string{"sub/page.txt": "public"})
	h := openDir(t, root)
	sub, backup := filepath.Join(root, "sub"), filepath.Join(root, "backup")
	var swaps atomic.Int64
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- swap(sub, backup, outside, stop, &swaps) }()
	served := 0
	for start := time.Now(); (swaps.Load() < 300 || served == 0) && time.Since(start) < 30*time.Second && len(done) == 0; {
		if body := bodyOf(t, do(h, "GET", "/sub/page.txt")); body == "public" {
			served++
		} else if !strings.Contains(body, "urn:inbox:problem:not-found") {
			t.Fatalf("got %q, want public or a problem document", body)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if wantStatus(t, do(h, "GET", "/sub/page.txt"), http.StatusOK); served == 0 {
		t.Error("the page was never served between swaps, want it served sometimes")
	}
}

// swap replaces the directory with a link and back, until stop is closed.
func swap(sub, backup, outside string, stop <-chan struct{}, swaps *atomic.Int64) error {
	steps := []func() error{
		func() error { return os.Rename(sub, backup) },
		func() error { return os.Symlink(outside, sub) },
		func() error { return os.Remove(sub) },
		func() error { return os.Rename(backup, sub) },
	}
	for {
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		swaps.Add(1)
		select {
		case <-stop:
			return nil
		default:
		}
	}
}

func TestDirRequiresDirectory(t *testing.T) {
	file := filepath.Join(writeFiles(t, map[string]string{"file": "x"}), "file")
	for _, name := range []string{file, filepath.Join(t.TempDir(), "missing")} {
		if _, err := Dir(name, Options{}); err == nil || !strings.HasPrefix(err.Error(), "open pages directory: ") {
			t.Errorf("got error %v, want open pages directory", err)
		}
	}
}

// FuzzDirPath checks that no path reaches files outside the directory or private ones,
// and that only expected statuses occur.
func FuzzDirPath(f *testing.F) {
	for _, seed := range []string{"/", "/page.txt", "/sub", "/sub/", "/..", "/../secret", "//x", "/.hidden", "/a/./b", "/%2e%2e/", "/link/secret.txt", "/x.key", "/\\", "/sub/index.html/"} {
		f.Add(seed)
	}
	outside := writeFiles(f, map[string]string{"secret.txt": "secret"})
	root := writeFiles(f, map[string]string{"page.txt": "public", "sub/index.html": "public", ".hidden": "secret", "x.key": "secret", "sub/x.go": "secret", "key": pemKey})
	if err := os.Symlink(outside, filepath.Join(root, "link")); err != nil {
		f.Fatal(err)
	}
	h := openDir(f, root)
	f.Fuzz(func(t *testing.T, path string) {
		answer := do(h, "GET", path)
		switch body := bodyOf(t, answer); answer.StatusCode {
		case http.StatusOK:
			if body != "public" && path != "/favicon.ico" {
				t.Errorf("%q: got %q, want public", path, body)
			}
		case http.StatusMovedPermanently:
			if to := answer.Header.Get("Location"); !strings.HasPrefix(to, "./") || strings.HasPrefix(to, ".//") {
				t.Errorf("%q: got a redirect to %q, want a relative one", path, to)
			}
		case http.StatusNotFound:
		default:
			t.Errorf("%q: got status %d, want 200, 301 or 404", path, answer.StatusCode)
		}
	})
}

func ExampleDir() {
	root, err := os.MkdirTemp("", "pages")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(root)
	if err := os.WriteFile(filepath.Join(root, "index.html"), []byte("hello"), 0o644); err != nil {
		panic(err)
	}
	h, err := Dir(root, Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println(do(h, "GET", "/").StatusCode, do(h, "GET", "/server.key").StatusCode)
	// Output: 200 404
}

func BenchmarkDir(b *testing.B) {
	h := openDir(b, writeFiles(b, map[string]string{"sub/page.html": strings.Repeat("<p>text</p>\n", 4000)}))
	r := httptest.NewRequest("HEAD", "/sub/page.html", nil)
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}
