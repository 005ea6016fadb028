package config

import (
	"flag"
	"os"
	"strings"
	"testing"
)

// TestEnvironmentFile compares systemd/inbox.env with the options: it lists each one
// with its default, commented out, and nothing else. To fix it, add the line that the
// failure prints below the heading of its group.
func TestEnvironmentFile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../../systemd/inbox.env")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		variable, isComment := strings.CutPrefix(line, "#")
		if name, value, found := strings.Cut(variable, "="); found && strings.HasPrefix(name, envPrefix) {
			values[name] = value
		}
		if line != "" && !isComment {
			t.Errorf("the line %q is not a comment", line)
		}
	}
	o := defaultOptions()
	for _, g := range o.groups {
		g.flags.VisitAll(func(f *flag.Flag) {
			if !o.settable(f.Name) || f.Name == "config" || g.title == doctorGroup || g.title == setupGroup {
				return
			}
			name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
			value, found := values[name]
			if !found || f.DefValue != "" && value != f.DefValue {
				t.Errorf("systemd/inbox.env lacks, below \"# %s\":\n#%s=%s", g.title, name, f.DefValue)
			}
			delete(values, name)
		})
	}
	for name := range values {
		t.Errorf("systemd/inbox.env has %s, which is not an option", name)
	}
}
