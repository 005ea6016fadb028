package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestFlagsDocument compares docs/flags.md with the table of options. To fix it, copy
// the rows that the failure prints into the document.
func TestFlagsDocument(t *testing.T) {
	text, err := os.ReadFile("../../../../docs/flags.md")
	if err != nil {
		t.Fatal(err)
	}
	rest := string(text)
	for _, g := range defaultOptions().groups {
		table := flagTable(g)
		before, after, found := strings.Cut(rest, table)
		if !found {
			t.Errorf("docs/flags.md does not contain, in this order:\n%s", table)
			continue
		}
		if strings.Contains(before, "\n| `-") {
			t.Errorf("docs/flags.md has rows of unknown options before %q", g.title)
		}
		rest = after
	}
	if strings.Contains(rest, "\n| `-") {
		t.Error("docs/flags.md has rows of unknown options at its end")
	}
}

// flagTable returns a group as a Markdown table.
func flagTable(g optionGroup) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n| option | default | meaning |\n| --- | --- | --- |\n", g.title)
	g.flags.VisitAll(func(f *flag.Flag) {
		value, meaning := flag.UnquoteUsage(f)
		shown := "empty"
		if f.DefValue != "" {
			shown = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.TrimSpace("-"+f.Name+" "+value), shown, meaning)
	})
	return b.String()
}
