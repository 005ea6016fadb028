package limits

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/conn"
	"inbox/ratelimit"
)

// A dry run reports once a minute, and only counts that have grown.
func TestDryRunReport(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	clientIP := &ratelimit.ClientIP{}
	l := New(Config{Rate: 1, Burst: 1, DryRun: true}, clientIP, conn.NewClientResolver(clientIP, nil))
	var report DryRunReport
	now := time.Now()
	logged := func(after time.Duration) string {
		out.Reset()
		report.Log(l, log, now.Add(after))
		return out.String()
	}
	l.Header.refused.Store(3)
	for _, row := range []struct {
		after time.Duration
		grows int64
		want  string
	}{{0, 0, "header=3"}, {59 * time.Second, 4, ""}, {time.Minute, 0, "header=4"}, {2 * time.Minute, 0, ""}} {
		l.Header.refused.Add(row.grows)
		if got := logged(row.after); got == "" != (row.want == "") || !strings.Contains(got, row.want) {
			t.Errorf("after %v: got %q, want %q", row.after, got, row.want)
		}
	}
	l.dryRun = false
	l.Header.refused.Add(1)
	if got := logged(time.Hour); got != "" {
		t.Errorf("without a dry run: got %q", got)
	}
}
