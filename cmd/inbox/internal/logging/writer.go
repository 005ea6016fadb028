package logging

import (
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// stallTimeout is how long a line waits for the reader of the log.
const stallTimeout = time.Second

// Writer writes lines to a file whose reader can stop reading: a terminal, or a pipe to
// a pager or a log collector. A write to a full pipe would block everything that logs.
// The Writer waits for a second and then drops lines until the reader continues. It
// never returns an error, so that a lost log stops nothing. It can be used concurrently.
type Writer struct {
	file    *os.File
	timeout time.Duration

	mu      sync.Mutex
	pending chan struct{} // closed when the last write ends; nil before the first one
	dropped int
}

// NewWriter returns a Writer for a file.
func NewWriter(file *os.File) *Writer { return &Writer{file: file, timeout: stallTimeout} }

// Stat returns the properties of the file.
func (w *Writer) Stat() (fs.FileInfo, error) { return w.file.Stat() }

// Write implements [io.Writer].
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stalledLocked() {
		w.dropped++
		return len(line), nil
	}
	text := w.withNoticeLocked(line)
	done := make(chan struct{})
	w.pending = done
	go func() {
		defer close(done)
		_, _ = w.file.Write(text) // without a reader, the line is lost
	}()
	select {
	case <-done:
	case <-time.After(w.timeout):
	}
	return len(line), nil
}

// stalledLocked reports whether the last write is still waiting for the reader.
func (w *Writer) stalledLocked() bool {
	if w.pending == nil {
		return false
	}
	select {
	case <-w.pending:
		return false
	default:
		return true
	}
}

// withNoticeLocked returns a copy of the line. The number of lines that were dropped
// since the last write precedes it.
func (w *Writer) withNoticeLocked(line []byte) (text []byte) {
	if w.dropped > 0 {
		text = fmt.Appendf(text, "inbox: %d log lines were dropped, because their reader had stopped reading\n", w.dropped)
		w.dropped = 0
	}
	return append(text, line...)
}
