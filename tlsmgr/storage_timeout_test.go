//go:build unix

package tlsmgr

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/internal/timeout"
	"inbox/tlsmgr/internal/tlstest"
)

// blockWithFIFO replaces a file by a FIFO without a writer. Reading it blocks, as on an
// unreachable network file system.
func blockWithFIFO(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // unblocks pending reads
		if f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			f.Close()
		}
	})
}

// wantWithin fails the test if do does not return within limit.
func wantWithin(t *testing.T, limit time.Duration, what string, do func()) {
	t.Helper()
	if began := time.Now(); !timeout.Run(limit, do) {
		t.Errorf("%s did not return within %v", what, time.Since(began))
	}
}

// A self-signed certificate is served while the disk of the state directory hangs.
func TestSelfSignedStartsWhenStorageHangs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tlstest.MustWriteFile(t, filepath.Join(dir, selfSignedFile), nil)
	blockWithFIFO(t, filepath.Join(dir, selfSignedFile))
	wantWithin(t, 2*diskTimeout, "New", func() {
		s, err := New(Config{StateDir: dir})
		if err != nil {
			t.Error(err)
			return
		}
		servedName(t, s)
	})
}

// While the disk of the certificate files hangs, Reload, State and shutdown do not
// block, and the current certificate stays in use.
func TestHangingFilesDoNotBlock(t *testing.T) {
	t.Parallel()
	for name, domains := range map[string][]string{"files only": nil, "files with domains": {"one.example.org"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPairFiles(t)
			chain, key := tlstest.ValidPair(t, "one.example.org")
			p.write(t, chain, key)
			c := acmeConfig(t, "one.example.org")
			c.Domains, c.CertFile, c.KeyFile = domains, p.cert, p.key
			c.ACME.WaitForAddress = true // nothing is ordered, since the name has no address
			log, buf := tlstest.NewLog()
			c.Logger = log
			s, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			blockWithFIFO(t, p.key)
			setTimes(t, time.Now(), p.cert)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); s.Run(ctx) }()
			time.Sleep(fileCheckInterval + fileCheckInterval/2) // until Run reads the files
			for range 3 {
				wantWithin(t, 2*diskTimeout, "Reload", s.Reload)
			}
			wantWithin(t, diskTimeout, "State", func() { s.State() })
			if buf.Count("timeout reading") == 0 {
				t.Errorf("want the timeout in the log:\n%s", buf)
			}
			if states := s.State(); states[0].Source != "file" {
				t.Errorf("got State %+v, want source file", states)
			}
			cancel()
			wantWithin(t, 2*(diskTimeout+acme.ShutdownTimeout), "Run", func() { <-done })
		})
	}
}

// With domains the files are only a fallback, so the start does not wait for a disk that
// hangs.
func TestStartWhenFallbackFilesHang(t *testing.T) {
	t.Parallel()
	p := newPairFiles(t)
	chain, key := tlstest.ValidPair(t, "one.example.org")
	p.write(t, chain, key)
	blockWithFIFO(t, p.cert)
	c := acmeConfig(t, "one.example.org")
	c.CertFile, c.KeyFile = p.cert, p.key
	wantWithin(t, 2*diskTimeout, "New", func() { newTestManaged(t, c) })
}

// Without domains the files are the only certificate, so New fails if the disk hangs.
func TestStartFailsWhenFilesHang(t *testing.T) {
	t.Parallel()
	p := newPairFiles(t)
	chain, key := tlstest.ValidPair(t, "one.example.org")
	p.write(t, chain, key)
	blockWithFIFO(t, p.cert)
	wantWithin(t, 6*diskTimeout, "New", func() {
		if _, err := New(Config{CertFile: p.cert, KeyFile: p.key}); err == nil || !strings.Contains(err.Error(), "timeout reading") {
			t.Errorf("New: got %v, want a timeout", err)
		}
	})
}
