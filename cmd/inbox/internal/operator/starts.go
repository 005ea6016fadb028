package operator

import (
	"path/filepath"
	"strings"
	"time"

	"inbox/internal/atomicfile"
)

const (
	// StartsFile is the file of the state directory that has the times of the starts, one a line.
	StartsFile = "starts"
	// maxStarts is how many of them are kept, and maxStartsBytes more than they take.
	maxStarts      = 50
	maxStartsBytes = 4 << 10
)

// RecordStart adds the time of a start to the file in the state directory, and returns those of
// earlier ones, oldest first. An unreadable file counts as empty. Without a directory ("") nothing
// is recorded.
func RecordStart(dir string, now time.Time) (earlier []time.Time, err error) {
	if dir == "" {
		return nil, nil
	}
	path := filepath.Join(dir, StartsFile)
	text, _ := atomicfile.Read(path, maxStartsBytes) // absent at the first start
	for line := range strings.Lines(string(text)) {
		if t, err := time.Parse(time.RFC3339, strings.TrimSpace(line)); err == nil && !t.After(now) {
			earlier = append(earlier, t)
		}
	}
	earlier = earlier[max(0, len(earlier)-maxStarts+1):]
	var b strings.Builder
	for _, t := range append(earlier[:len(earlier):len(earlier)], now) {
		b.WriteString(t.UTC().Format(time.RFC3339) + "\n")
	}
	return earlier, atomicfile.Write(path, []byte(b.String()))
}
