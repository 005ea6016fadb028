package snapshot

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

var testLimits = inbox.Limits{Timeout: time.Minute}

// logBuffer collects log lines.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func mustOpen(t *testing.T, dir string, timeout time.Duration, log *slog.Logger) *File {
	t.Helper()
	f, err := Open(dir, []byte("key"), timeout, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

var longTimeouts = Timeouts{Stall: time.Minute, Total: time.Minute}

// Only one server can lock the directory. Another one waits for it up to its timeout.
func TestOpenIsExclusive(t *testing.T) {
	t.Parallel()
	dir, out := t.TempDir(), &logBuffer{}
	log := slog.New(slog.NewTextHandler(out, nil))
	first := mustOpen(t, dir, 0, log)
	if err := first.Save(memstore.New(testLimits), longTimeouts, func() {}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, []byte("key"), 0, nil, log); err == nil {
		t.Error("locked: got no error")
	}
	done := make(chan struct{})
	close(done)
	if _, err := Open(dir, []byte("key"), time.Minute, done, log); err == nil {
		t.Error("locked until the process is stopped: got no error")
	}
	if info, err := os.Stat(first.Path()); err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v, want the snapshot with mode 0600", info, err)
	}
	lines := strings.Count(out.String(), "waiting for another server")
	waited := make(chan *File)
	go func() {
		f, err := Open(dir, []byte("key"), time.Minute, nil, log)
		if err != nil {
			t.Error(err)
		}
		waited <- f
	}()
	for strings.Count(out.String(), "waiting for another server") == lines {
		time.Sleep(time.Millisecond)
	}
	first.Close()
	second := <-waited
	defer second.Close()
	if second.Load(testLimits); !strings.Contains(out.String(), "mailboxes restored") {
		t.Errorf("the second server did not restore the mailboxes:\n%s", out)
	}
}

// slowFile takes its time for each write, and closes a channel when it is closed.
type slowFile struct {
	WriteSyncCloser
	delay  time.Duration
	closed chan struct{}
}

func (f slowFile) Write(p []byte) (int, error) {
	time.Sleep(f.delay)
	return f.WriteSyncCloser.Write(p)
}

func (f slowFile) Close() error { defer close(f.closed); return f.WriteSyncCloser.Close() }

// Save gives up after the total timeout even if it makes progress.
func TestSaveHasTotalTimeout(t *testing.T) {
	t.Parallel()
	f := mustOpen(t, t.TempDir(), 0, slog.New(slog.DiscardHandler))
	m := memstore.New(inbox.Limits{Timeout: time.Minute, Capacity: 100, MaxQueuedBytes: 1 << 30})
	if _, err := m.Open(t.Context(), "alice", inbox.Key{}, &inbox.Payer{}); err != nil {
		t.Fatal(err)
	}
	for range 32 {
		if _, err := m.Put(t.Context(), "alice", inbox.Message{From: "bob", Body: make([]byte, 64<<10)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	closed := make(chan struct{})
	f.Create = func(path string) (WriteSyncCloser, error) {
		disk, err := createExclusive(path)
		return slowFile{disk, 20 * time.Millisecond, closed}, err
	}
	steps := 0
	err := f.Save(m, Timeouts{Stall: time.Second, Total: 150 * time.Millisecond}, func() { steps++ })
	if !errors.Is(err, ErrStalled) || steps == 0 {
		t.Errorf("got %v after %d steps, want ErrStalled after some", err, steps)
	}
	<-closed
	// Wait for the goroutine to finish before the test removes the directory.
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(filepath.Join(f.dir, FileName)); err == nil {
			break
		}
	}
}

// countingFile counts unsynced bytes and syncs.
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

// The file is synced while it is written: one sync of all of it at the end would
// show no progress.
func TestSnapshotIsSyncedWhileWritten(t *testing.T) {
	t.Parallel()
	sink := &countingFile{}
	var f File
	w := &progressWriter{WriteSyncCloser: sink, progress: &f.progress}
	for range 100 {
		if n, err := w.Write(make([]byte, 1<<20)); n != 1<<20 || err != nil {
			t.Fatal(n, err)
		}
	}
	if sink.maxUnsynced > syncBytes+1<<20 || sink.syncs != 100/(syncBytes>>20) || f.progress.Load() != int64(100+sink.syncs) {
		t.Errorf("got %d unsynced bytes, %d syncs, %d steps", sink.maxUnsynced, sink.syncs, f.progress.Load())
	}
}
