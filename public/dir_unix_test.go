//go:build unix

package public

import (
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A plain open of a FIFO would block the request until a writer appears.
func TestDirRejectsSpecialFiles(t *testing.T) {
	root := writeFiles(t, nil)
	if err := syscall.Mkfifo(filepath.Join(root, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", filepath.Join(root, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	h := openDir(t, root)
	for _, path := range []string{"/pipe", "/socket"} {
		answered := make(chan *http.Response, 1)
		go func() { answered <- do(h, "GET", path) }()
		select {
		case answer := <-answered:
			wantStatus(t, answer, http.StatusNotFound)
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no response within ten seconds, want 404", path)
		}
	}
}

// Files that other users of the machine cannot read are not served.
func TestDirWithholdsPrivateFiles(t *testing.T) {
	root := writeFiles(t, map[string]string{
		"index.html": "x", "turn.json": "x", "conf.txt": "x", "group.html": "x", "closed/page.html": "x", "closed/sub/page.html": "x",
		"secret/index.html": "x", "open/page.html": "x", "public.html": "x",
	})
	for name, mode := range map[string]os.FileMode{
		"turn.json": 0o600, "conf.txt": 0o640, "group.html": 0o060, "public.html": 0o604, "secret/index.html": 0o600, "closed": 0o700, ".": 0o700,
	} {
		if err := os.Chmod(filepath.Join(root, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	h := openDirWith(t, root, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for path, want := range map[string]int{
		"/": 200, "/open/page.html": 200, "/public.html": 200, "/open": 301,
		"/turn.json": 404, "/conf.txt": 404, "/group.html": 404, "/closed": 404, "/closed/": 404, "/closed/page.html": 404,
		"/closed/sub/page.html": 404, "/closed/sub": 404, "/secret/": 404,
	} {
		if got := do(h, "GET", path).StatusCode; got != want {
			t.Errorf("%s: got status %d, want %d", path, got, want)
		}
	}
	// turn.json, conf.txt, group.html, closed and secret/index.html
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "level=WARN") || !strings.Contains(text, "count=5") {
		t.Errorf("got the log %q, want one warning with count=5", text)
	}
}

// A file that becomes private while the program runs is reported at its first request.
func TestDirReportsPrivateFileLater(t *testing.T) {
	root := writeFiles(t, map[string]string{"page.html": "x"})
	var log strings.Builder
	h := openDirWith(t, root, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	wantStatus(t, do(h, "GET", "/page.html"), http.StatusOK)
	wantStatus(t, do(h, "GET", "/nothing"), http.StatusNotFound)
	if log.Len() > 0 {
		t.Errorf("got the log %q, want none", log.String())
	}
	if err := os.Chmod(filepath.Join(root, "page.html"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		wantStatus(t, do(h, "GET", "/page.html"), http.StatusNotFound)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "count=1") {
		t.Errorf("got the log %q, want one warning with count=1", text)
	}
}

// Names that have a drive or a separator of another operating system are rejected
// everywhere.
func TestDirRejectsNamesOfOtherSystems(t *testing.T) {
	h := openDir(t, writeFiles(t, map[string]string{"c:page.html": "x", "sub\\page.html": "x", "page.html": "x", "a.key.": "x", "b.key ": "x", "c. /page.html": "x"}))
	for path, want := range map[string]int{"/a.key.": 404, "/b.key ": 404, "/c. /page.html": 404, "/c:page.html": 404, "/sub\\page.html": 404, "/page.html\x00": 404, "/page.html": 200} {
		if got := do(h, "GET", path).StatusCode; got != want {
			t.Errorf("%q: got status %d, want %d", path, got, want)
		}
	}
}

// Creating a device requires root, so this tests checkFile directly.
func TestCheckFileRejectsDevices(t *testing.T) {
	device, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	info, err := device.Stat()
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if err := (dir{}).checkFile("null", false, device, info); err != errNotPublic {
		t.Errorf("got error %v, want %v", err, errNotPublic)
	}
}
