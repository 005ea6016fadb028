package sdnotify

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"log/slog"
	"sync"
)

// JournalWriter returns stderr, or, when stderr is connected to the journal, a
// writer that prefixes lines with their priority, so that journalctl -p warning
// finds the warnings. A logger must write to it through [JournalHandler].
func JournalWriter(stderr io.Writer, getenv func(name string) string) io.Writer {
	if f, ok := stderr.(file); ok && isJournal(f, getenv("JOURNAL_STREAM")) {
		return &journalWriter{out: f}
	}
	return stderr
}

// file is an [os.File], or a writer that wraps one.
type file interface {
	io.Writer
	Stat() (fs.FileInfo, error)
}

// JournalHandler returns next, whose output is w; if w is a writer of
// [JournalWriter] for the journal, each record passes its level to w.
func JournalHandler(w io.Writer, next slog.Handler) slog.Handler {
	if j, ok := w.(*journalWriter); ok {
		return journalHandler{next, j}
	}
	return next
}

// PriorityPrefix returns the prefix of a line that is written to stderr directly,
// like the reason of a failed start; "" if w is not connected to the journal.
func PriorityPrefix(w io.Writer, l slog.Level) string {
	if _, ok := w.(*journalWriter); ok {
		return priority(l)
	}
	return ""
}

// journalWriter prefixes each line with the priority of the current record.
type journalWriter struct {
	out io.Writer

	mu       sync.Mutex
	priority string
	line     []byte
}

// Write is called once for each record, as slog's handlers do, with mu held.
func (j *journalWriter) Write(line []byte) (int, error) {
	j.line = append(append(j.line[:0], j.priority...), bytes.TrimRight(line, "\n")...)
	j.line = append(j.line, '\n')
	if _, err := j.out.Write(j.line); err != nil {
		return 0, err
	}
	return len(line), nil
}

// journalHandler sets the priority for the line that the embedded handler writes.
type journalHandler struct {
	slog.Handler
	journal *journalWriter
}

func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.journal.mu.Lock()
	defer h.journal.mu.Unlock()
	h.journal.priority = priority(r.Level)
	return h.Handler.Handle(ctx, r)
}

func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return journalHandler{h.Handler.WithAttrs(attrs), h.journal}
}

func (h journalHandler) WithGroup(name string) slog.Handler {
	return journalHandler{h.Handler.WithGroup(name), h.journal}
}

// priority returns the level as a syslog priority.
func priority(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}
