// Package logging sets up the log and keeps secrets and whole addresses out of it.
package logging

import (
	"io"
	"log/slog"

	"inbox/cmd/inbox/internal/sdnotify"
)

// Options configures a log.
type Options struct {
	// Level is the minimum level.
	Level slog.Level
	// JSON selects JSON instead of text.
	JSON bool
	// Terminal selects the text for a terminal: short times and aligned levels. Colour adds
	// escape sequences to it. Neither has an effect with JSON.
	Terminal, Colour bool
	// Recent, if not nil, keeps the last warnings and errors that the log contains.
	Recent *Recent
}

// New returns a logger that writes to w. If w is a writer of [sdnotify.JournalWriter], records
// have priorities.
func New(w io.Writer, o Options) *slog.Logger {
	opts := &slog.HandlerOptions{Level: o.Level}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	switch {
	case o.JSON:
		h = slog.NewJSONHandler(w, opts)
	case o.Terminal:
		h = newTerminalHandler(w, opts, o.Colour)
	}
	h = sdnotify.JournalHandler(w, h)
	if o.Recent != nil {
		h = recentHandler{h, o.Recent, nil, ""}
	}
	return slog.New(h)
}
