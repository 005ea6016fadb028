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
	// syncEvery is how many bytes may wait in memory for the disk: few enough that
	// one that writes 1 MB a second shows progress in time, and many enough that a
	// fast one is not held up.
	syncEvery = 32 << 20
	// saveMargin is what the service manager waits longer than we do, so that it
	// hears why nothing was saved.
	saveMargin = 15 * time.Second
)

// errDiskHangs says that saving was given up.
var errDiskHangs = errors.New("the disk under the state directory (-state) hangs or is far too slow; see what ails it: dmesg, df")

// save keeps the mailboxes for the next start. As long as something reaches the
// disk the service manager hears that the end takes longer. When nothing does,
// or it takes too long in all, saving is given up: nobody can end a call of the
// system that hangs, so its goroutine is left behind, with the archive's lock.
func (h *house) save() error {
	h.notify.ExtendTimeout(h.times.stall + saveMargin)
	done := make(chan error, 1)
	go func() { done <- h.archive.save(h.store) }()
	ticker := time.NewTicker(max(h.times.stall/10, time.Millisecond))
	defer ticker.Stop()
	began := time.Now()
	for steps, moved := int64(0), began; ; {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
		}
		if now := h.archive.steps.Load(); now != steps {
			steps, moved = now, time.Now()
			h.notify.ExtendTimeout(h.times.stall + saveMargin)
		}
		if time.Since(moved) > h.times.stall || time.Since(began) > h.times.save {
			h.archive.abandoned = true
			return fmt.Errorf("save the mailboxes for the next start, which will have none: given up after %v: %w",
				time.Since(began).Round(time.Second), errDiskHangs)
		}
	}
}

// file is what a snapshot is written to.
type file interface {
	io.WriteCloser
	Sync() error
}

// newFile makes a file that was not there, for its owner alone.
func newFile(path string) (file, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// steadyFile writes to the disk as it goes, and counts its steps: the system
// would else take it all into memory at once, and then be silent for minutes.
type steadyFile struct {
	file
	waiting int64 // bytes that may not be on the disk yet
	steps   *atomic.Int64
}

func (f *steadyFile) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	f.steps.Add(1)
	if f.waiting += int64(n); err == nil && f.waiting >= syncEvery {
		err = f.Sync()
	}
	return n, err
}

func (f *steadyFile) Sync() error {
	err := f.file.Sync()
	f.waiting = 0
	f.steps.Add(1)
	return err
}
