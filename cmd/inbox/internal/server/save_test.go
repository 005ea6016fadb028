//go:build unix

package server

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/snapshot"
	"inbox/inbox"
)

// newSavingServer builds a server with about two megabytes of messages and a service
// manager. stall and save are its timeouts for saving.
func newSavingServer(t *testing.T, stall, save time.Duration) (*server, *serviceManager) {
	t.Helper()
	m := newServiceManager(t)
	p := m.process()
	p.Timeouts = shortTimeouts()
	p.Timeouts.SaveStall, p.Timeouts.Save = stall, save
	srv := build(t, p, resolve(t, "-https=false"), nil)
	if _, err := srv.mailboxes.memory.Open(t.Context(), "alice", inbox.Key{}, &inbox.Payer{}); err != nil {
		t.Fatal(err)
	}
	for range 32 {
		if _, err := srv.mailboxes.memory.Put(t.Context(), "alice", inbox.Message{From: "bob", Body: make([]byte, 64<<10)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	return srv, m
}

// slowFile delays each write.
type slowFile struct {
	snapshot.WriteSyncCloser
	delay time.Duration
}

func (f slowFile) Write(p []byte) (int, error) {
	time.Sleep(f.delay)
	return f.WriteSyncCloser.Write(p)
}

// Sync does nothing, so that the test does not depend on the actual disk.
func (slowFile) Sync() error { return nil }

// TestSlowSaveExtendsTimeout checks that a slow disk does not abort saving, and that the
// service manager's timeout is extended as long as saving makes progress.
func TestSlowSaveExtendsTimeout(t *testing.T) {
	t.Parallel()
	srv, m := newSavingServer(t, 3*time.Second, time.Minute)
	create := srv.mailboxes.snapshot.Create
	srv.mailboxes.snapshot.Create = func(path string) (snapshot.WriteSyncCloser, error) {
		f, err := create(path)
		return slowFile{f, 200 * time.Millisecond}, err
	}
	began := time.Now()
	if err := srv.save(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	asked := m.extensions()
	if took < 2*srv.timeouts.SaveStall || len(asked) < 10 || slices.ContainsFunc(asked, func(a string) bool { return a != "EXTEND_TIMEOUT_USEC=18000000" }) {
		t.Errorf("in %v got extensions %q, want at least ten of 18 s", took, asked)
	}
	if _, restored := srv.mailboxes.snapshot.Load(srv.cfg.Mailboxes); restored.Messages != 32 {
		t.Errorf("got %d saved messages, want 32", restored.Messages)
	}
}

// TestStalledSaveIsAbandoned checks that saving to a stalled disk is abandoned in time. The
// timeout is not extended any more, an earlier snapshot is kept, and the directory stays
// locked, because the pending write can still complete.
func TestStalledSaveIsAbandoned(t *testing.T) {
	t.Parallel()
	srv, m := newSavingServer(t, 500*time.Millisecond, time.Minute)
	before := srv.mailboxes.snapshot.Path()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	disk, err := os.OpenFile(pipe, os.O_RDWR, 0) // buffers 64 KiB; nothing reads from it
	if err != nil {
		t.Fatal(err)
	}
	srv.mailboxes.snapshot.Create = func(string) (snapshot.WriteSyncCloser, error) {
		writeFile(t, before, "of an earlier end")
		return disk, nil
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	began := time.Now()
	err = srv.run(stopped, nil)
	if took := time.Since(began); !errors.Is(err, snapshot.ErrStalled) || !strings.Contains(err.Error(), "mailboxes not saved") || took > 10*time.Second {
		t.Errorf("after %v: got %v, want snapshot.ErrStalled within 10s", took, err)
	}
	if asked := m.extensions(); len(asked) == 0 || len(asked) > 3 {
		t.Errorf("got extensions %q, want them only while data was written", asked)
	}
	if text, err := os.ReadFile(before); string(text) != "of an earlier end" {
		t.Errorf("the earlier snapshot: %q, %v", text, err)
	}
	srv.mailboxes.snapshot.Close()
	if other, err := snapshot.Open(filepath.Dir(before), nil, 0, nil, srv.log); err == nil {
		t.Error("another server got the directory while a write is pending")
		other.Close()
	}
	disk.Close() // the pending write fails
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
	if err := srv.save(); err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("after %v: got %v, want success within 10s", time.Since(began), err)
	}
}
