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

// savingHouse is a house with about two megabytes of messages, whose service
// manager listens. Patience is as of [times].
func savingHouse(t *testing.T, stall, save time.Duration) (*house, *manager) {
	t.Helper()
	m := newManager(t)
	patience := hasty()
	patience.stall, patience.save = stall, save
	h := newHouse(t, process{environ: m.environ, times: patience}, func(l net.Listener) net.Listener { return l })
	if _, err := h.store.Open(t.Context(), "alice", inbox.Key{}, &inbox.Payer{}); err != nil {
		t.Fatal(err)
	}
	for range 32 {
		if err := h.store.Put(t.Context(), "alice", inbox.Message{From: "bob", Body: make([]byte, 64<<10)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	return h, m
}

// extensions are the notices that ask for more time, of those that have come.
func (m *manager) extensions() (all []string) {
	for {
		lines, more := m.poll(50 * time.Millisecond)
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
	file
	each time.Duration
}

func (f slowFile) Write(p []byte) (int, error) {
	time.Sleep(f.each)
	return f.file.Write(p)
}

// Sync leaves the disk of the test itself out of it, which may be busy.
func (slowFile) Sync() error { return nil }

func slowly(each time.Duration) func(string) (file, error) {
	return func(path string) (file, error) {
		f, err := newFile(path)
		return slowFile{f, each}, err
	}
}

// A disk that is slow gets all the time it needs, and the service manager hears
// of it as long as something is written.
func TestSlowSaveAsksForMoreTime(t *testing.T) {
	t.Parallel()
	h, m := savingHouse(t, 3*time.Second, time.Minute)
	h.archive.create = slowly(200 * time.Millisecond)
	began := time.Now()
	if err := h.save(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	asked := m.extensions()
	if took < 2*h.times.stall || len(asked) < 10 || slices.ContainsFunc(asked, func(a string) bool { return a != "EXTEND_TIMEOUT_USEC=18000000" }) {
		t.Errorf("in %v the service manager was asked %q, want 18 s at least ten times", took, asked)
	}
	if h.archive.load(h.cfg.mailboxLimits()); h.archive.restored.Messages != 32 {
		t.Errorf("%d messages were saved, want 32", h.archive.restored.Messages)
	}
}

// A disk that hangs is given up in time. The service manager is not asked any
// more, an earlier snapshot stays, and nobody else may have the directory, for
// the write that hangs may still end.
func TestHangingSaveIsGivenUp(t *testing.T) {
	t.Parallel()
	h, m := savingHouse(t, 500*time.Millisecond, time.Minute)
	before := filepath.Join(h.archive.dir, snapshotFile)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	disk, err := os.OpenFile(pipe, os.O_RDWR, 0) // which takes 64 KiB, and then nobody reads
	if err != nil {
		t.Fatal(err)
	}
	h.archive.create = func(string) (file, error) { writeFile(t, before, "of an earlier end"); return disk, nil }
	stopped, stop := context.WithCancel(t.Context())
	stop()
	began := time.Now()
	err = h.live(stopped)
	if took := time.Since(began); !errors.Is(err, errDiskHangs) || !strings.Contains(err.Error(), "save the mailboxes") || took > 10*time.Second {
		t.Errorf("after %v: %v; want that the disk hangs, in less", took, err)
	}
	if asked := m.extensions(); len(asked) == 0 || len(asked) > 3 {
		t.Errorf("the service manager was asked %q, want only as long as something was written", asked)
	}
	if text, err := os.ReadFile(before); string(text) != "of an earlier end" {
		t.Errorf("the earlier snapshot: %q, %v", text, err)
	}
	h.archive.close()
	if other := openArchive(h.archive.dir, nil, 0, nil, h.log); other.dir != "" {
		t.Error("another server has the directory while a write hangs")
		other.close()
	}
	disk.Close() // the write ends, with an error
	h.archive.abandoned = false
}

// Progress without an end is not waited for either.
func TestSavingIsBoundedInAll(t *testing.T) {
	t.Parallel()
	h, _ := savingHouse(t, time.Second, 100*time.Millisecond)
	ended := make(chan struct{})
	h.archive.create = func(path string) (file, error) {
		f, err := newFile(path)
		return endingFile{slowFile{f, 20 * time.Millisecond}, ended}, err
	}
	if err := h.save(); !errors.Is(err, errDiskHangs) {
		t.Errorf("got %v, want that the disk hangs", err)
	}
	<-ended
	// It is not to write into a directory that the test removes.
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(filepath.Join(h.archive.dir, snapshotFile)); err == nil {
			break
		}
	}
}

// endingFile tells when it is closed.
type endingFile struct {
	file
	ended chan struct{}
}

func (f endingFile) Close() error { defer close(f.ended); return f.file.Close() }

// sinkFile counts.
type sinkFile struct {
	io.WriteCloser
	unsynced, most, syncs int
}

func (f *sinkFile) Write(p []byte) (int, error) {
	f.unsynced += len(p)
	f.most = max(f.most, f.unsynced)
	return len(p), nil
}
func (f *sinkFile) Sync() error { f.unsynced = 0; f.syncs++; return nil }

// What is written reaches the disk as it goes: else all of it would be waited
// for in one call, without any sign of progress.
func TestSnapshotsReachTheDiskAsTheyGo(t *testing.T) {
	t.Parallel()
	sink := &sinkFile{}
	var a archive
	f := &steadyFile{file: sink, steps: &a.steps}
	for range 100 {
		if n, err := f.Write(make([]byte, 1<<20)); n != 1<<20 || err != nil {
			t.Fatal(n, err)
		}
	}
	if sink.most > syncEvery+1<<20 || sink.syncs != 100/(syncEvery>>20) || a.steps.Load() != int64(100+sink.syncs) {
		t.Errorf("%d bytes waited for the disk, %d syncs, %d steps", sink.most, sink.syncs, a.steps.Load())
	}
}

// A service manager that does not read what it is told loses no mailboxes.
func TestSavingDoesNotWaitForTheServiceManager(t *testing.T) {
	t.Parallel()
	h, m := savingHouse(t, 20*time.Second, 20*time.Second)
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
	if err := h.save(); err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}
