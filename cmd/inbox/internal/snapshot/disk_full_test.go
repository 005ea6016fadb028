//go:build unix

package snapshot

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"testing"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// fullDisk is a disk with limited space. If late is set, it reports the error when the
// file is synced, as some file systems do.
type fullDisk struct {
	WriteSyncCloser
	left int64
	late bool
}

func (d *fullDisk) Write(p []byte) (int, error) {
	n := min(int64(len(p)), max(0, d.left))
	d.left -= int64(len(p))
	if d.late || d.left >= 0 {
		return d.WriteSyncCloser.Write(p)
	}
	_, err := d.WriteSyncCloser.Write(p[:n])
	return int(n), errors.Join(err, &os.PathError{Op: "write", Path: "mailboxes.new", Err: syscall.ENOSPC})
}

func (d *fullDisk) Sync() error {
	if d.left < 0 {
		return &os.PathError{Op: "sync", Path: "mailboxes.new", Err: syscall.EDQUOT}
	}
	return nil
}

// newFilledStore returns a store with a mailbox of 1 MiB and ten with 1 KiB.
func newFilledStore(t *testing.T) *memstore.Store {
	t.Helper()
	m := memstore.New(testLimits)
	for i := range 11 {
		name, size := fmt.Sprint("small-", i), 1<<10
		if i == 10 {
			name, size = "large", 1<<20
		}
		if _, err := m.Open(t.Context(), name, inbox.Key{}, &inbox.Payer{}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Put(t.Context(), name, inbox.Message{From: "bob", Body: make([]byte, size)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// TestFullDiskGetsWhatFits checks that a full disk costs the messages of the largest
// mailboxes only, and that the error says so.
func TestFullDiskGetsWhatFits(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		for _, row := range []struct {
			space                                    int64
			minMessages, maxMessages, inboxes, wantE int64
		}{
			{2 << 20, 11, 11, 11, 0},
			{500 << 10, 10, 10, 11, 1},
			{20 << 10, 10, 10, 11, 1},
			{9 << 10, 1, 8, 11, 1},
		} {
			dir := t.TempDir()
			f := mustOpen(t, dir, 0, slog.New(slog.DiscardHandler))
			f.Create = func(path string) (WriteSyncCloser, error) {
				file, err := createExclusive(path)
				return &fullDisk{file, row.space, late}, err
			}
			err := f.Save(newFilledStore(t), longTimeouts, func() {})
			if errors.Is(err, ErrPartlySaved) != (row.wantE == 1) || row.wantE == 0 && err != nil {
				t.Errorf("%d bytes, late %v: got %v", row.space, late, err)
			}
			if f.wasInUse() {
				t.Errorf("%d bytes, late %v: the next start would report lost mailboxes", row.space, late)
			}
			_, restored := f.Load(testLimits)
			minMessages := row.minMessages
			if late && row.maxMessages < 10 {
				minMessages = 0 // the space is found by halving
			}
			if restored.Inboxes != row.inboxes || restored.Messages < minMessages || restored.Messages > row.maxMessages {
				t.Errorf("%d bytes, late %v: restored %d mailboxes and %d messages, want %d and %d to %d", row.space, late,
					restored.Inboxes, restored.Messages, row.inboxes, minMessages, row.maxMessages)
			}
		}
	}
}

// TestNoSpaceAtAll checks that a disk without any space ends in an error and leaves no file.
func TestNoSpaceAtAll(t *testing.T) {
	t.Parallel()
	f := mustOpen(t, t.TempDir(), 0, slog.New(slog.DiscardHandler))
	f.Create = func(path string) (WriteSyncCloser, error) {
		file, err := createExclusive(path)
		return &fullDisk{file, 0, false}, err
	}
	err := f.Save(newFilledStore(t), longTimeouts, func() {})
	if err == nil || errors.Is(err, ErrPartlySaved) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", err)
	}
	for _, path := range []string{f.Path(), f.newPath()} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s exists, want none", path)
		}
	}
}
