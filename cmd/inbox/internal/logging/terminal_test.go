package logging

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"
)

// logExamples writes records with all kinds of attributes.
func logExamples(log *slog.Logger) {
	log.Debug("hidden")
	log.Info("listening", "addr", "127.0.0.1:3000", "scheme", "https")
	log.Warn("plain HTTP", "fix", `set "-trusted-proxies" a=b`, "empty", "", "count", 3)
	log.With("name", "a.example").WithGroup("order").Error("failed", "err", errors.New("two\nlines \x1b[31m"), "in", time.Minute)
	log.Info("line\nbreak \x1b]0;title\a")
}

// TestTerminalLines compares the lines for a terminal.
func TestTerminalLines(t *testing.T) {
	var out bytes.Buffer
	logExamples(New(&out, Options{Terminal: true}))
	got := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d `).ReplaceAllString(out.String(), "TIME ")
	want := `TIME INFO  listening  addr=127.0.0.1:3000 scheme=https
TIME WARN  plain HTTP  fix="set \"-trusted-proxies\" a=b" empty="" count=3
TIME ERROR failed  name=a.example order.err="two\nlines \x1b[31m" order.in=1m0s
TIME INFO  "line\nbreak \x1b]0;title\a"
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestTerminalColour checks that the coloured lines are the plain ones without the escape
// sequences, and that keys are faint.
func TestTerminalColour(t *testing.T) {
	var plain, coloured bytes.Buffer
	logExamples(New(&plain, Options{Terminal: true}))
	logExamples(New(&coloured, Options{Terminal: true, Colour: true}))
	escape := regexp.MustCompile(`\x1b\[[0-9;]*m`)
	times := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d`)
	if got, want := times.ReplaceAllString(escape.ReplaceAllString(coloured.String(), ""), ""), times.ReplaceAllString(plain.String(), ""); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, want := range []string{yellow + "WARN" + reset, red + "ERROR" + reset, faint + "fix=" + reset + `"set`, " " + faint + "order.in=" + reset + "1m0s"} {
		if !strings.Contains(coloured.String(), want) {
			t.Errorf("got %q, want %q in it", coloured.String(), want)
		}
	}
	if strings.Contains(plain.String(), "\x1b") {
		t.Error("an escape sequence is in the plain text")
	}
}

// TestTerminalHasTheFactsOfText checks that both formats have the same attributes.
func TestTerminalHasTheFactsOfText(t *testing.T) {
	var terminal, text bytes.Buffer
	logExamples(New(&terminal, Options{Terminal: true}))
	logExamples(New(&text, Options{}))
	lines := strings.Split(text.String(), "\n")
	for i, line := range strings.Split(terminal.String(), "\n") {
		_, attrs, _ := strings.Cut(line, "  ")
		_, attrs, found := strings.Cut(attrs, "  ")
		if found && !strings.HasSuffix(lines[i], " "+attrs) {
			t.Errorf("got %q, want the attributes of %q", line, lines[i])
		}
	}
}

// TestJSONOnTerminal checks that a terminal does not change JSON.
func TestJSONOnTerminal(t *testing.T) {
	var out bytes.Buffer
	New(&out, Options{JSON: true, Terminal: true, Colour: true}).Info("text")
	if !strings.HasPrefix(out.String(), `{"time":"`) {
		t.Errorf("got %s, want JSON", out.String())
	}
}
