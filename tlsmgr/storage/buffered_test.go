package storage

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Values that cannot be written to disk are kept in memory and written later.
func TestBufferedStorageKeepsFailedWrites(t *testing.T) {
	var buf bytes.Buffer
	log := slog.New(slog.NewTextHandler(&buf, nil))
	dir := filepath.Join(t.TempDir(), "state")
	mustWriteFile(t, dir, nil) // a file where the directory should be
	k := NewBuffered(NewDirectory(dir, log), log)
	ctx := t.Context()
	for _, key := range []string{"a/one", "a/two"} {
		if err := k.Store(ctx, key, []byte(key)); err != nil {
			t.Fatal(err)
		}
		if got, err := k.Load(ctx, key); err != nil || string(got) != key {
			t.Errorf("Load(%s): got %q, %v, want the stored value", key, got, err)
		}
	}
	if strings.Count(buf.String(), "rejects writes") != 1 {
		t.Errorf("want one log line about the failed writes:\n%s", &buf)
	}
	_ = k.Store(ctx, "a/three", nil)
	_ = k.Delete(ctx, "a/three") // fails on disk
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := k.Store(canceled, "a/late", nil); err == nil {
		t.Error("Store with an ended context: got no error")
	}
	if len(k.pending.values) != 2 {
		t.Errorf("got %d pending values, want 2, without the deleted and the late one", len(k.pending.values))
	}
	k.Flush(ctx) // still fails
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	k.Flush(ctx)
	got, err := os.ReadFile(filepath.Join(dir, "a", "one"))
	if err != nil || string(got) != "a/one" || len(k.pending.values) != 0 {
		t.Errorf("after flush: got %q, %v, %d pending, want the value on disk", got, err, len(k.pending.values))
	}
	if err := k.Delete(ctx, "a/one"); err != nil {
		t.Errorf("Delete: got %v", err)
	}
	if _, err := k.Load(ctx, "a/one"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load after Delete: got %v, want fs.ErrNotExist", err)
	}
}

// stallingStorage blocks before it stores the value "old".
type stallingStorage struct {
	Storage
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
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	k := NewBuffered(NewDirectory(dir, log), log)
	stalled := stallingStorage{k.Storage, make(chan struct{}), make(chan struct{})}
	k.Storage = stalled
	k.pending.values["a"] = []byte("old")
	flushed, stored := make(chan struct{}), make(chan error, 1)
	go func() { defer close(flushed); k.Flush(context.Background()) }()
	<-stalled.reached
	go func() { stored <- k.Store(context.Background(), "a", []byte("new")) }()
	time.Sleep(50 * time.Millisecond) // time for a wrong implementation to write
	close(stalled.unblock)
	<-flushed
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(got) != "new" || len(k.pending.values) != 0 {
		t.Errorf("got %q, %v on disk and %d pending values, want the new value and none", got, err, len(k.pending.values))
	}
}

// lostLease is a lease that is lost.
type lostLease struct{ Lease }

func (lostLease) Store(context.Context, string, []byte) error { return ErrLeaseLost }

func mustWriteFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
