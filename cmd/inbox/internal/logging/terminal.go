package logging

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
)

// terminalTime is the time of a line. The date is that of the reader.
const terminalTime = "15:04:05"

// terminalHandler writes records for the reader of a terminal:
//
//	12:30:45 WARN  message  key=value key="other value"
//
// [slog.TextHandler] formats the attributes, so that they are those of the text format.
type terminalHandler struct {
	slog.Handler // writes the attributes of a record to attrs
	out          *terminalOutput
}

// terminalOutput is what the handlers of one log share.
type terminalOutput struct {
	w      io.Writer
	colour bool

	mu    sync.Mutex
	attrs bytes.Buffer // of the current record
	line  []byte
}

func newTerminalHandler(w io.Writer, o *slog.HandlerOptions, colour bool) terminalHandler {
	out := &terminalOutput{w: w, colour: colour}
	attributes := slog.NewTextHandler(&out.attrs, &slog.HandlerOptions{Level: o.Level, ReplaceAttr: withoutFixed})
	return terminalHandler{attributes, out}
}

// withoutFixed removes time, level and message.
func withoutFixed(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

// Handle writes one line.
func (h terminalHandler) Handle(ctx context.Context, r slog.Record) error {
	o := h.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.attrs.Reset()
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	o.line = o.line[:0]
	o.add(faint, r.Time.Format(terminalTime))
	o.line = append(o.line, ' ')
	level := r.Level.String()
	o.add(colourOf(r.Level), level)
	o.line = append(o.line, strings.Repeat(" ", max(1, len("ERROR ")-len(level)))...)
	o.line = append(o.line, printable(r.Message)...)
	o.addAttrs(strings.TrimSuffix(o.attrs.String(), "\n"))
	o.line = append(o.line, '\n')
	_, err := o.w.Write(o.line)
	return err
}

// WithAttrs implements [slog.Handler].
func (h terminalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return terminalHandler{h.Handler.WithAttrs(attrs), h.out}
}

// WithGroup implements [slog.Handler].
func (h terminalHandler) WithGroup(name string) slog.Handler {
	return terminalHandler{h.Handler.WithGroup(name), h.out}
}

// printable returns a message in quotes if it contains control characters.
func printable(message string) string {
	if strings.ContainsFunc(message, func(c rune) bool { return !strconv.IsPrint(c) }) {
		return strconv.Quote(message)
	}
	return message
}

// Escape sequences (SGR).
const (
	faint  = "\x1b[2m"
	red    = "\x1b[1;31m"
	yellow = "\x1b[33m"
	green  = "\x1b[32m"
	reset  = "\x1b[0m"
)

func colourOf(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return red
	case l >= slog.LevelWarn:
		return yellow
	case l >= slog.LevelInfo:
		return green
	}
	return faint
}

func (o *terminalOutput) add(colour, text string) {
	if !o.colour {
		o.line = append(o.line, text...)
		return
	}
	o.line = append(append(append(o.line, colour...), text...), reset...)
}

// addAttrs adds attributes as [slog.TextHandler] writes them, with faint keys.
func (o *terminalOutput) addAttrs(text string) {
	separator := "  "
	for text != "" {
		n := tokenEnd(text, "=")
		o.line = append(o.line, separator...)
		o.add(faint, text[:n])
		text = text[n:]
		n = tokenEnd(text, " ")
		o.line = append(o.line, text[:n]...)
		text = strings.TrimPrefix(text[n:], " ")
		separator = " "
	}
}

// tokenEnd returns the length of the text up to a terminator outside of quotation marks. The
// terminator = belongs to the token.
func tokenEnd(text, terminator string) int {
	for i, quoted := 0, false; i < len(text); i++ {
		switch {
		case quoted && text[i] == '\\':
			i++
		case text[i] == '"':
			quoted = !quoted
		case !quoted && text[i] == terminator[0]:
			return i + strings.Count(terminator, "=")
		}
	}
	return len(text)
}
