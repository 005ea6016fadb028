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

// newSavingServer builds a server with about two megabytes of messages and a service
// manager. stall and save are its timeouts for saving.
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
		if err := srv.store.Put(t.Context(), "alice", inbox.Message{From: "bob", Body: make([]byte, 64<<10)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	return srv, m
}

// extensions returns the received notifications that extend the timeout.
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

// slowFile delays each write.
type slowFile struct {
	syncWriteCloser
	each time.Duration
}

func (f slowFile) Write(p []byte) (int, error) {
	time.Sleep(f.each)
	return f.syncWriteCloser.Write(p)
}

// Sync does nothing, so that the test does not depend on the actual disk.
func (slowFile) Sync() error { return nil }

func createSlow(each time.Duration) func(string) (syncWriteCloser, error) {
	return func(path string) (syncWriteCloser, error) {
		f, err := createExclusive(path)
		return slowFile{f, each}, err
	}
}

// TestSlowSaveExtendsTimeout checks that a slow disk does not abort saving, and that the
// service manager's timeout is extended as long as saving makes progress.
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
		t.Errorf("in %v got extensions %q, want at least ten of 18 s", took, asked)
	}
	if srv.snapshot.load(srv.cfg.mailboxLimits()); srv.snapshot.restored.Messages != 32 {
		t.Errorf("got %d saved messages, want 32", srv.snapshot.restored.Messages)
	}
}

// TestStalledSaveIsAbandoned checks that saving to a stalled disk is abandoned in time. The
// timeout is not extended any more, an earlier snapshot is kept, and the directory stays
// locked, because the pending write can still complete.
func TestStalledSaveIsAbandoned(t *testing.T) {
	t.Parallel()
	srv, m := newSavingServer(t, 500*time.Millisecond, time.Minute)
	before := filepath.Join(srv.snapshot.dir, snapshotName)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	disk, err := os.OpenFile(pipe, os.O_RDWR, 0) // buffers 64 KiB; nothing reads from it
	if err != nil {
		t.Fatal(err)
	}
	srv.snapshot.create = func(string) (syncWriteCloser, error) { writeFile(t, before, "of an earlier end"); return disk, nil }
	stopped, stop := context.WithCancel(t.Context())
	stop()
	began := time.Now()
	err = srv.run(stopped)
	if took := time.Since(began); !errors.Is(err, errDiskStalled) || !strings.Contains(err.Error(), "save the mailboxes") || took > 10*time.Second {
		t.Errorf("after %v: got %v, want errDiskStalled within 10s", took, err)
	}
	if asked := m.extensions(); len(asked) == 0 || len(asked) > 3 {
		t.Errorf("got extensions %q, want them only while data was written", asked)
	}
	if text, err := os.ReadFile(before); string(text) != "of an earlier end" {
		t.Errorf("the earlier snapshot: %q, %v", text, err)
	}
	srv.snapshot.close()
	if other := openSnapshotFile(srv.snapshot.dir, nil, 0, nil, srv.log); other.dir != "" {
		t.Error("another server got the directory while a write is pending")
		other.close()
	}
	disk.Close() // the pending write fails
	srv.snapshot.abandoned = false
}

// TestSaveHasTotalTimeout checks that saving has a total timeout despite progress.
func TestSaveHasTotalTimeout(t *testing.T) {
	t.Parallel()
	srv, _ := newSavingServer(t, time.Second, 100*time.Millisecond)
	ended := make(chan struct{})
	srv.snapshot.create = func(path string) (syncWriteCloser, error) {
		f, err := createExclusive(path)
		return closeNotifyFile{slowFile{f, 20 * time.Millisecond}, ended}, err
	}
	if err := srv.saveMailboxes(); !errors.Is(err, errDiskStalled) {
		t.Errorf("got %v, want errDiskStalled", err)
	}
	<-ended
	// Wait for the end of the write, before the test removes the directory.
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(filepath.Join(srv.snapshot.dir, snapshotName)); err == nil {
			break
		}
	}
}

// closeNotifyFile closes a channel when it is closed.
type closeNotifyFile struct {
	syncWriteCloser
	closed chan struct{}
}

func (f closeNotifyFile) Close() error { defer close(f.closed); return f.syncWriteCloser.Close() }

// countingFile counts syncs and the bytes not yet synced.
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

// TestSnapshotIsSyncedWhileWritten checks that the snapshot is synced in steps. A single
// sync at the end would show no progress.
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
		t.Errorf("got at most %d unsynced bytes, %d syncs and %d steps of progress", sink.maxUnsynced, sink.syncs, snapshot.progress.Load())
	}
}

// TestSaveDoesNotBlockOnServiceManager checks that mailboxes are saved although the service
// manager does not read notifications.
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
		t.Errorf("after %v: got %v, want success within 10s", time.Since(began), err)
	}
}
