//go:build unix

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"inbox/inbox"
)

// newSavingServer is a house with about two megabytes of messages, whose service
// manager listens. Patience is as of [times].
func newSavingServer(t *testing.T, stall, save time.Duration) (*server, *serviceManager) {
	t.Helper()
	m := newServiceManager(t)
	timeouts := shortTimeouts()
	timeouts.saveStall, timeouts.save = stall, save
	srv := newTestServer(t, process{environ: m.environ, timeouts: timeouts}, func(l net.Listener) net.Listener { return l })
	if _, err := srv.store.Open(t.Context(), "alice", inbox.Key{}, &inbox.Payer{}); err != nil {
		t.Fatal(err)
	}
	for range 32 {
		if _, err := srv.store.Put(t.Context(), "alice", inbox.Message{From: "bob", Body: make([]byte, 64<<10)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	return srv, m
}

// extensions are the notices that ask for more time, of those that have come.
func (m *serviceManager) extensions() (all []string) {
	for {
		lines, more := m.tryNext(50 * time.Millisecond)
		if !more {
			return all
		}
		if strings.HasPrefix(lines[0], "EXTEND_TIMEOUT_USEC=") {
			all = append(all, lines[0])
		}
	}
}

// slowFile takes its time for each write.
type slowFile struct {
	syncWriteCloser
	each time.Duration
}

func (f slowFile) Write(p []byte) (int, error) {
	time.Sleep(f.each)
	return f.syncWriteCloser.Write(p)
}

// Sync leaves the disk of the test itself out of it, which may be busy.
func (slowFile) Sync() error { return nil }

func createSlow(each time.Duration) func(string) (syncWriteCloser, error) {
	return func(path string) (syncWriteCloser, error) {
		f, err := createExclusive(path)
		return slowFile{f, each}, err
	}
}

// A disk that is slow gets all the time it needs, and the service manager hears
// of it as long as something is written.
func TestSlowSaveExtendsTimeout(t *testing.T) {
	t.Parallel()
	srv, m := newSavingServer(t, 3*time.Second, time.Minute)
	srv.snapshot.create = createSlow(200 * time.Millisecond)
	began := time.Now()
	if err := srv.saveMailboxes(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	asked := m.extensions()
	if took < 2*srv.timeouts.saveStall || len(asked) < 10 || slices.ContainsFunc(asked, func(a string) bool { return a != "EXTEND_TIMEOUT_USEC=18000000" }) {
		t.Errorf("in %v the service manager was asked %q, want 18 s at least ten times", took, asked)
	}
	if srv.snapshot.load(srv.cfg.mailboxLimits()); srv.snapshot.restored.Messages != 32 {
		t.Errorf("%d messages were saved, want 32", srv.snapshot.restored.Messages)
	}
}

// A disk that hangs is given up in time. The service manager is not asked any
// more, an earlier snapshot stays, and nobody else may have the directory, for
// the write that hangs may still end.
func TestStalledSaveIsAbandoned(t *testing.T) {
	t.Parallel()
	srv, m := newSavingServer(t, 500*time.Millisecond, time.Minute)
	before := filepath.Join(srv.snapshot.dir, snapshotName)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	disk, err := os.OpenFile(pipe, os.O_RDWR, 0) // which takes 64 KiB, and then nobody reads
	if err != nil {
		t.Fatal(err)
	}
	srv.snapshot.create = func(string) (syncWriteCloser, error) { writeFile(t, before, "of an earlier end"); return disk, nil }
	stopped, stop := context.WithCancel(t.Context())
	stop()
	began := time.Now()
	err = srv.run(stopped)
	if took := time.Since(began); !errors.Is(err, errDiskStalled) || !strings.Contains(err.Error(), "save the mailboxes") || took > 10*time.Second {
		t.Errorf("after %v: %v; want that the disk hangs, in less", took, err)
	}
	if asked := m.extensions(); len(asked) == 0 || len(asked) > 3 {
		t.Errorf("the service manager was asked %q, want only as long as something was written", asked)
	}
	if text, err := os.ReadFile(before); string(text) != "of an earlier end" {
		t.Errorf("the earlier snapshot: %q, %v", text, err)
	}
	srv.snapshot.close()
	if other := openSnapshotFile(srv.snapshot.dir, nil, 0, nil, srv.log); other.dir != "" {
		t.Error("another server has the directory while a write hangs")
		other.close()
	}
	disk.Close() // the write ends, with an error
	srv.snapshot.abandoned = false
}

// Progress without an end is not waited for either.
func TestSaveHasTotalTimeout(t *testing.T) {
	t.Parallel()
	srv, _ := newSavingServer(t, time.Second, 100*time.Millisecond)
	ended := make(chan struct{})
	srv.snapshot.create = func(path string) (syncWriteCloser, error) {
		f, err := createExclusive(path)
		return closeNotifyFile{slowFile{f, 20 * time.Millisecond}, ended}, err
	}
	if err := srv.saveMailboxes(); !errors.Is(err, errDiskStalled) {
		t.Errorf("got %v, want that the disk hangs", err)
	}
	<-ended
	// It is not to write into a directory that the test removes.
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(filepath.Join(srv.snapshot.dir, snapshotName)); err == nil {
			break
		}
	}
}

// closeNotifyFile tells when it is closed.
type closeNotifyFile struct {
	syncWriteCloser
	closed chan struct{}
}

func (f closeNotifyFile) Close() error { defer close(f.closed); return f.syncWriteCloser.Close() }

// countingFile counts.
type countingFile struct {
	io.WriteCloser
	unsynced, maxUnsynced, syncs int
}

func (f *countingFile) Write(p []byte) (int, error) {
	f.unsynced += len(p)
	f.maxUnsynced = max(f.maxUnsynced, f.unsynced)
	return len(p), nil
}
func (f *countingFile) Sync() error { f.unsynced = 0; f.syncs++; return nil }

// What is written reaches the disk as it goes: else all of it would be waited
// for in one call, without any sign of progress.
func TestSnapshotIsSyncedWhileWritten(t *testing.T) {
	t.Parallel()
	sink := &countingFile{}
	var snapshot snapshotFile
	w := &progressWriter{syncWriteCloser: sink, progress: &snapshot.progress}
	for range 100 {
		if n, err := w.Write(make([]byte, 1<<20)); n != 1<<20 || err != nil {
			t.Fatal(n, err)
		}
	}
	if sink.maxUnsynced > syncBytes+1<<20 || sink.syncs != 100/(syncBytes>>20) || snapshot.progress.Load() != int64(100+sink.syncs) {
		t.Errorf("%d bytes waited for the disk, %d syncs, %d steps", sink.maxUnsynced, sink.syncs, snapshot.progress.Load())
	}
}

// A service manager that does not read what it is told loses no mailboxes.
func TestSaveDoesNotBlockOnServiceManager(t *testing.T) {
	t.Parallel()
	srv, m := newSavingServer(t, 20*time.Second, 20*time.Second)
	conn, err := net.Dial("unixgram", m.notices.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetWriteDeadline(time.Now().Add(time.Second))
	for err == nil { // until its queue is full
		_, err = conn.Write([]byte("X=1"))
	}
	began := time.Now()
	if err := srv.saveMailboxes(); err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}
