package sdnotify

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"sync"
)

// JournalWriter is stderr, or one that marks lines with their priority when the
// journal of systemd reads it (sd-daemon(3)): «journalctl -p warning» then finds
// the warnings. What a logger writes there has to go through [Handler].
func JournalWriter(stderr io.Writer, getenv func(name string) string) io.Writer {
	if f, ok := stderr.(*os.File); ok && isJournal(f, getenv("JOURNAL_STREAM")) {
		return &journalWriter{out: f}
	}
	return stderr
}

// JournalHandler is next, which writes to w, and tells w of levels if it is a journal.
func JournalHandler(w io.Writer, next slog.Handler) slog.Handler {
	if j, ok := w.(*journalWriter); ok {
		return journalHandler{next, j}
	}
	return next
}

// PriorityPrefix begins a line that is written past the log, such as why the program
// cannot start; empty where the journal does not read w.
func PriorityPrefix(w io.Writer, l slog.Level) string {
	if _, ok := w.(*journalWriter); ok {
		return priority(l)
	}
	return ""
}

// journalWriter marks each line with the priority of the record that is being written.
type journalWriter struct {
	out io.Writer

	mu       sync.Mutex
	priority string
	line     []byte
}

// Write takes one record at a time, as slog's handlers write them.
func (j *journalWriter) Write(line []byte) (int, error) {
	j.line = append(append(j.line[:0], j.priority...), bytes.TrimRight(line, "\n")...)
	j.line = append(j.line, '\n')
	if _, err := j.out.Write(j.line); err != nil {
		return 0, err
	}
	return len(line), nil
}

// journalHandler tells the journal of the level of what next is about to write.
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

// priority is that of syslog.
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
