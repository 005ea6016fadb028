package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
)

const (
	// syncBytes is how many bytes may wait in memory for the disk: few enough that
	// one that writes 1 MB a second shows progress in time, and many enough that a
	// fast one is not held up.
	syncBytes = 32 << 20
	// saveMargin is what the service manager waits longer than we do, so that it
	// hears why nothing was saved.
	saveMargin = 15 * time.Second
)

// errDiskStalled says that saving was given up.
var errDiskStalled = errors.New("the disk under the state directory (-state) hangs or is far too slow; see what ails it: dmesg, df")

// saveMailboxes keeps the mailboxes for the next start. As long as something reaches the
// disk the service manager hears that the end takes longer. When nothing does,
// or it takes too long in all, saving is given up: nobody can end a call of the
// system that hangs, so its goroutine is left behind, with the archive's lock.
func (s *server) saveMailboxes() error {
	s.notify.ExtendTimeout(s.timeouts.saveStall + saveMargin)
	done := make(chan error, 1)
	go func() { done <- s.snapshot.save(s.store) }()
	ticker := time.NewTicker(max(s.timeouts.saveStall/10, time.Millisecond))
	defer ticker.Stop()
	began := time.Now()
	for progress, moved := int64(0), began; ; {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
		}
		if now := s.snapshot.progress.Load(); now != progress {
			progress, moved = now, time.Now()
			s.notify.ExtendTimeout(s.timeouts.saveStall + saveMargin)
		}
		if time.Since(moved) > s.timeouts.saveStall || time.Since(began) > s.timeouts.save {
			s.snapshot.abandoned = true
			return fmt.Errorf("save the mailboxes for the next start, which will have none: given up after %v: %w",
				time.Since(began).Round(time.Second), errDiskStalled)
		}
	}
}

// syncWriteCloser is what a snapshot is written to.
type syncWriteCloser interface {
	io.WriteCloser
	Sync() error
}

// createExclusive makes a file that was not there, for its owner alone.
func createExclusive(path string) (syncWriteCloser, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// progressWriter writes to the disk as it goes, and counts its steps: the system
// would else take it all into memory at once, and then be silent for minutes.
type progressWriter struct {
	syncWriteCloser
	unsynced int64 // bytes that may not be on the disk yet
	progress *atomic.Int64
}

func (w *progressWriter) Write(p []byte) (int, error) {
	n, err := w.syncWriteCloser.Write(p)
	w.progress.Add(1)
	if w.unsynced += int64(n); err == nil && w.unsynced >= syncBytes {
		err = w.Sync()
	}
	return n, err
}

func (w *progressWriter) Sync() error {
	err := w.syncWriteCloser.Sync()
	w.unsynced = 0
	w.progress.Add(1)
	return err
}
