//go:build unix

package tlsmgr

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Root gives files of the state directory to the service, and nothing that the
// service has put a link to.
func TestChownStaysInStateDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root, to give files to another user")
		}
		t.Skip("needs root, to give files to another user")
	}
	const serviceUID = 65534
	dir, outside := t.TempDir(), t.TempDir()
	inside := filepath.Join(dir, "acme", "schedule", "one.json")
	if err := os.MkdirAll(filepath.Dir(inside), 0o700); err != nil {
		t.Fatal(err)
	}
	mustWriteFile(t, inside, nil)
	mustWriteFile(t, filepath.Join(outside, "one.json"), nil)
	if err := os.Symlink(outside, filepath.Join(dir, "acme", "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, serviceUID, serviceUID); err != nil {
		t.Fatal(err)
	}
	chownLikeDir(dir, inside)
	chownLikeDir(dir, filepath.Join(dir, "acme", "link", "one.json"))
	chownLikeDir(dir, filepath.Join(outside, "one.json"))
	for path, want := range map[string]uint32{
		inside: serviceUID, filepath.Dir(inside): serviceUID, filepath.Join(dir, "acme"): serviceUID,
		outside: 0, filepath.Join(outside, "one.json"): 0,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Uid; got != want {
			t.Errorf("%s belongs to %d, want %d", path, got, want)
		}
	}
}

// A doctor finds out whether a server answers challenges for it, and holds up none.
func TestInUseWhileServerRuns(t *testing.T) {
	c := acmeConfig(t, "one.example.org")
	c.ACME.CA.URL = "https://127.0.0.1:1/directory" // nothing is ordered there
	m, _ := newTestManaged(t, c)
	if InUse(c.StateDir) {
		t.Error("attended before any server runs")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	for began := time.Now(); !InUse(c.StateDir); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatal("not attended while a server runs")
		}
	}
	cancel()
	<-done
	if InUse(c.StateDir) {
		t.Error("attended after the server has ended")
	}
}
