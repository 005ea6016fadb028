package logging

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func newRecentLog(level slog.Level) (*slog.Logger, *Recent) {
	r := &Recent{}
	return New(io.Discard, Options{Level: level, Recent: r}), r
}

// TestRecentKeepsWarnings checks which records are kept, with which attributes.
func TestRecentKeepsWarnings(t *testing.T) {
	log, r := newRecentLog(slog.LevelInfo)
	log.Info("listening")
	log.With("name", "a.example").WithGroup("g").Warn("failed", "err", "dial 192.0.2.77:443: refused", slog.Group("in", "n", 1))
	log.Error("worse", "at", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	got := fmt.Sprint(r.Entries()[0].Message, r.Entries()[0].Attrs, r.Entries()[1].Message, r.Entries()[1].Attrs)
	want := "worse[{at 2026-01-02T03:04:05Z}]failed[{name a.example} {g.err dial 192.0.2.0/24: refused} {g.in.n 1}]"
	if got != want || len(r.Entries()) != 2 {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestRecentFollowsTheLevel checks that what the log omits is not kept.
func TestRecentFollowsTheLevel(t *testing.T) {
	log, r := newRecentLog(slog.LevelError)
	log.Warn("omitted")
	if got := r.Entries(); len(got) != 0 {
		t.Errorf("got %v, want nothing", got)
	}
}

// TestRecentIsBounded checks the limits of number and size, and that repetitions count.
func TestRecentIsBounded(t *testing.T) {
	log, r := newRecentLog(slog.LevelInfo)
	for range 3 {
		log.Warn("repeated", "n", 1)
	}
	if e := r.Entries()[0]; len(r.Entries()) != 1 || e.Count != 3 || e.Last.Before(e.First) {
		t.Errorf("got %+v, want one entry that counts 3", r.Entries())
	}
	for i := range 100 {
		attrs := []any{"long", strings.Repeat("ä", 5000)}
		for j := range 100 {
			attrs = append(attrs, fmt.Sprint(j), j)
		}
		log.Warn(fmt.Sprint("warning ", i), attrs...)
	}
	all := r.Entries()
	if len(all) != maxRecent || all[0].Message != "warning 99" || len(all[0].Attrs) != maxRecentAttrs || len(all[0].Attrs[0].Value) > maxRecentValueBytes+3 {
		t.Errorf("got %d entries, the first one %.300q", len(all), fmt.Sprint(all[0]))
	}
}
