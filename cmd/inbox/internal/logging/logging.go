// Package logging sets up the log and keeps secrets and whole addresses out of it.
package logging

import (
	"io"
	"log/slog"

	"inbox/cmd/inbox/internal/sdnotify"
)

// New returns a logger that writes records of at least the level to w, as JSON or
// as text. If w is a writer of [sdnotify.JournalWriter], records have priorities.
func New(w io.Writer, level slog.Level, json bool) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if json {
		h = slog.NewJSONHandler(w, opts)
	}
	return slog.New(sdnotify.JournalHandler(w, h))
}
