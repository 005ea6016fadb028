package sdnotify

import (
	"strings"
	"testing"
)

// getenvFrom returns a Getenv for space-separated assignments.
func getenvFrom(assignments string) func(string) string {
	return func(name string) string {
		for assignment := range strings.FieldsSeq(assignments) {
			if value, ok := strings.CutPrefix(assignment, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

// The variables apply only to the process that they name.
func TestListenFDNames(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		environ string
		names   string
		fails   bool
	}{
		"nothing":          {"", "", false},
		"another process":  {"LISTEN_FDS=1 LISTEN_PID=8 LISTEN_FDNAMES=x", "", false},
		"no process":       {"LISTEN_FDS=1 LISTEN_FDNAMES=x", "", false},
		"none":             {"LISTEN_FDS=0 LISTEN_PID=7", "", false},
		"two":              {"LISTEN_FDS=2 LISTEN_PID=7 LISTEN_FDNAMES=https:http", "https http", false},
		"without names":    {"LISTEN_FDS=2 LISTEN_PID=7", "", true},
		"fewer names":      {"LISTEN_FDS=2 LISTEN_PID=7 LISTEN_FDNAMES=https", "", true},
		"no number":        {"LISTEN_FDS=two LISTEN_PID=7", "", true},
		"negative":         {"LISTEN_FDS=-1 LISTEN_PID=7", "", true},
		"more than can be": {"LISTEN_FDS=99999999999 LISTEN_PID=7", "", true},
	} {
		names, err := listenFDNames(getenvFrom(test.environ), 7)
		if got := strings.Join(names, " "); got != test.names || (err != nil) != test.fails {
			t.Errorf("%s: got %q, %v; want %q, failure %v", name, got, err, test.names, test.fails)
		}
	}
}
