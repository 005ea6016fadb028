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

// blockWithFIFO puts a pipe in the place of a file: to read it is to wait for a writer
// that never comes, as for a disk of the network that went away.
func blockWithFIFO(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // lets those go who wait
		if f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			f.Close()
		}
	})
}

// wantWithin fails the test when something takes longer than it may.
func wantWithin(t *testing.T, limit time.Duration, what string, do func()) {
	t.Helper()
	if began := time.Now(); !withTimeout(limit, do) {
		t.Errorf("%s did not end within %v", what, time.Since(began))
	}
}

// A self-signed certificate serves, though the state directory's disk hangs.
func TestSelfSignedStartsWhenStorageHangs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustWriteFile(t, filepath.Join(dir, selfSignedFile), nil)
	blockWithFIFO(t, filepath.Join(dir, selfSignedFile))
	wantWithin(t, 2*diskTimeout, "the start", func() {
		s, err := New(Config{StateDir: dir})
		if err != nil {
			t.Error(err)
			return
		}
		servedName(t, s)
	})
}

// A disk that hangs under the files is felt by nobody who starts, asks, reloads
// or stops; the certificate in use stays.
func TestHangingFilesDoNotBlock(t *testing.T) {
	t.Parallel()
	for name, domains := range map[string][]string{"files alone": nil, "beside domains": {"one.example.org"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPairFiles(t)
			chain, key := validPair(t, "one.example.org")
			p.write(t, chain, key)
			c := acmeConfig(t, "one.example.org")
			c.Domains, c.CertFile, c.KeyFile = domains, p.cert, p.key
			c.ACME.WaitForAddress = true // nothing is ordered: there is no such name
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
			time.Sleep(fileCheckInterval + fileCheckInterval/2) // for Run to begin to read
			for range 3 {
				wantWithin(t, 2*diskTimeout, "Reload", s.Reload)
			}
			wantWithin(t, diskTimeout, "State", func() { s.State() })
			if buf.count("timeout reading") == 0 {
				t.Errorf("the log does not say that the disk hangs:\n%s", buf)
			}
			if states := s.State(); states[0].Source != "file" {
				t.Errorf("State = %+v, want the files' certificate", states)
			}
			cancel()
			wantWithin(t, 2*(diskTimeout+shutdownTimeout), "Run", func() { <-done })
		})
	}
}

// Files that hang at the start only stand in, so the server starts.
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

// With nothing else to serve with, the program says so and ends.
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

// stallingStorage is a disk that waits before it writes one key.
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

// What was held back is written before what is newer, never after it.
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
	time.Sleep(50 * time.Millisecond) // for a wrong one to write at once
	close(stalled.unblock)
	<-flushed
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(got) != "new" || len(k.pending) != 0 {
		t.Errorf("on the disk is %q, %v, and %d are held; want what is new", got, err, len(k.pending))
	}
}
