package attack

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// printTable writes the outcomes as a Markdown table.
func printTable(w io.Writer, outcomes []outcome) {
	fmt.Fprintln(w, "| attack | figures | good client p50 / p99 / slowest | RSS before, peak (limit), after | duration | recovery | threads | log |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, o := range outcomes {
		fmt.Fprintf(w, "| %s | %s | %s / %s / %s | %d, %d (%d), %d MiB | %.1f s | %.1f s | %d | %d KiB |\n",
			o.name, strings.Join(o.figures, "; "),
			milliseconds(percentile(o.probeLatencies, 0.5)), milliseconds(percentile(o.probeLatencies, 0.99)), milliseconds(percentile(o.probeLatencies, 1)),
			o.rssBefore>>20, o.rssPeak>>20, o.memory>>20, o.rssAfter>>20, o.took.Seconds(), o.recovery.Seconds(), o.threads, (o.logBytes+1023)>>10)
	}
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}
