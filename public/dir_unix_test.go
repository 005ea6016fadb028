//go:build unix

package public

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
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

// Names that have a drive or a separator of another operating system are rejected
// everywhere.
func TestDirRejectsNamesOfOtherSystems(t *testing.T) {
	h := openDir(t, writeFiles(t, map[string]string{"c:page.html": "x", "sub\\page.html": "x", "page.html": "x"}))
	for path, want := range map[string]int{"/c:page.html": 404, "/sub\\page.html": 404, "/page.html\x00": 404, "/page.html": 200} {
		if got := do(h, "GET", path).StatusCode; got != want {
			t.Errorf("%q: got status %d, want %d", path, got, want)
		}
	}
}

// Creating a device requires root, so this tests requireRegular directly.
func TestRequireRegularRejectsDevices(t *testing.T) {
	device, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	info, err := device.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := requireRegular(device, info); err != errNotPublic {
		t.Errorf("got error %v, want %v", err, errNotPublic)
	}
}
