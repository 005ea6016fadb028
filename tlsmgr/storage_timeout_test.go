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

	"github.com/caddyserver/certmagic"
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
	if began := time.Now(); !withTimeout(limit, do) {
		t.Errorf("%s did not return within %v", what, time.Since(began))
	}
}

// A self-signed certificate is served while the disk of the state directory hangs.
func TestSelfSignedStartsWhenStorageHangs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustWriteFile(t, filepath.Join(dir, selfSignedFile), nil)
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
			chain, key := validPair(t, "one.example.org")
			p.write(t, chain, key)
			c := acmeConfig(t, "one.example.org")
			c.Domains, c.CertFile, c.KeyFile = domains, p.cert, p.key
			c.ACME.WaitForAddress = true // nothing is ordered, since the name has no address
			log, buf := newLog()
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
			if buf.count("timeout reading") == 0 {
				t.Errorf("want the timeout in the log:\n%s", buf)
			}
			if states := s.State(); states[0].Source != "file" {
				t.Errorf("got State %+v, want source file", states)
			}
			cancel()
			wantWithin(t, 2*(diskTimeout+shutdownTimeout), "Run", func() { <-done })
		})
	}
}

// With domains the files are only a fallback, so the start does not wait for a disk that
// hangs.
func TestStartWhenFallbackFilesHang(t *testing.T) {
	t.Parallel()
	p := newPairFiles(t)
	chain, key := validPair(t, "one.example.org")
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
	chain, key := validPair(t, "one.example.org")
	p.write(t, chain, key)
	blockWithFIFO(t, p.cert)
	wantWithin(t, 6*diskTimeout, "New", func() {
		if _, err := New(Config{CertFile: p.cert, KeyFile: p.key}); err == nil || !strings.Contains(err.Error(), "timeout reading") {
			t.Errorf("New: got %v, want a timeout", err)
		}
	})
}

// stallingStorage blocks before it stores the value "old".
type stallingStorage struct {
	certmagic.Storage
	reached, unblock chan struct{}
}

func (s stallingStorage) Store(ctx context.Context, key string, value []byte) error {
	if string(value) == "old" {
		close(s.reached)
		<-s.unblock
	}
	return s.Storage.Store(ctx, key, value)
}

// flush does not overwrite a newer value with a pending one.
func TestFlushKeepsNewerValue(t *testing.T) {
	log, _ := newLog()
	dir := t.TempDir()
	k := newBufferedStorage(certmagicStorage(dirStorage{dir, log}), log)
	stalled := stallingStorage{k.Storage, make(chan struct{}), make(chan struct{})}
	k.Storage = stalled
	k.pending["a"] = []byte("old")
	flushed, stored := make(chan struct{}), make(chan error, 1)
	go func() { defer close(flushed); k.flush(context.Background()) }()
	<-stalled.reached
	go func() { stored <- k.Store(context.Background(), "a", []byte("new")) }()
	time.Sleep(50 * time.Millisecond) // time for a wrong implementation to write
	close(stalled.unblock)
	<-flushed
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(got) != "new" || len(k.pending) != 0 {
		t.Errorf("got %q, %v on disk and %d pending values, want the new value and none", got, err, len(k.pending))
	}
}
