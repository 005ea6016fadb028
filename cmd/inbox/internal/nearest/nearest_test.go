package nearest

import (
	"strings"
	"testing"
)

func TestDistance(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"domain", "domain", 0}, {"domian", "domain", 1}, {"domain", "domains", 1},
		{"kitten", "sitting", 3}, {"rate", "burst", 4},
	} {
		if got := Distance(row.a, row.b); got != row.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", row.a, row.b, got, row.want)
		}
		if Distance(row.a, row.b) != Distance(row.b, row.a) {
			t.Errorf("Distance(%q, %q) is not symmetric", row.a, row.b)
		}
	}
}

func TestName(t *testing.T) {
	for _, row := range []struct{ name, want string }{
		{"docter", "doctor"}, {"verison", "version"}, {"dcotor", "doctor"}, {"help", "help"}, {"hepl", "help"},
		{"nonsense", ""}, {"", ""}, {"x", ""}, {strings.Repeat("a", 65), ""},
	} {
		if got := Of(row.name, "doctor", "version", "help"); got != row.want {
			t.Errorf("%q: got %q, want %q", row.name, got, row.want)
		}
	}
}
