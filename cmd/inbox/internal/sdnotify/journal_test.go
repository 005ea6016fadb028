package sdnotify

import (
	"log/slog"
	"strings"
	"testing"
)

// Attributes and groups of a logger are kept.
func TestJournalKeepsAttributes(t *testing.T) {
	var out strings.Builder
	j := &journalWriter{out: &out}
	log := slog.New(JournalHandler(j, slog.NewTextHandler(j, nil))).With("a", 1).WithGroup("g")
	log.Warn("text", "b", 2)
	log.Log(t.Context(), slog.LevelError+1, "worse")
	for _, want := range []string{"<4>time=", " a=1 g.b=2\n<3>"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %q, want %q in it", out.String(), want)
		}
	}
}
