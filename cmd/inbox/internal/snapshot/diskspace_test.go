package snapshot

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestDiskWatch checks that a change between enough and too little space is logged once.
func TestDiskWatch(t *testing.T) {
	var out bytes.Buffer
	free, need, known := uint64(100), uint64(0), true
	w := diskWatch{log: slog.New(slog.NewTextHandler(&out, nil)), need: func() uint64 { return need }, free: func() (uint64, bool) { return free, known }}
	for _, row := range []struct {
		name       string
		free, need uint64
		known      bool
		want       string
	}{
		{"empty mailboxes", 0, 0, true, ""},
		{"enough", 100, 100, true, ""},
		{"unknown", 0, 100, false, ""},
		{"too little", 99, 100, true, "level=WARN"},
		{"still too little", 10, 100, true, ""},
		{"barely enough", 124, 100, true, ""},
		{"enough again", 125, 100, true, "level=INFO"},
		{"more mailboxes", 125, 200, true, "freeBytes=125 neededBytes=200"},
	} {
		out.Reset()
		free, need, known = row.free, row.need, row.known
		w.check()
		if got := out.String(); row.want == "" && got != "" || !strings.Contains(got, row.want) {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}
