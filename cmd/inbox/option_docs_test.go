package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestFlagsDocument checks docs/flags.md against the table of options. To fix a failure,
// copy the printed rows into the document.
func TestFlagsDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/flags.md")
	if err != nil {
		t.Fatal(err)
	}
	rest := string(text)
	for _, g := range newConfig().optionGroups() {
		table := flagTable(g)
		before, after, found := strings.Cut(rest, table)
		if !found {
			t.Errorf("docs/flags.md lacks, in this order:\n%s", table)
			continue
		}
		if strings.Contains(before, "\n| `-") {
			t.Errorf("docs/flags.md has rows for unknown options before %q", g.title)
		}
		rest = after
	}
	if strings.Contains(rest, "\n| `-") {
		t.Error("docs/flags.md has rows for unknown options at its end")
	}
}

// flagTable formats an option group as a Markdown table.
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

// TestReadmeListsOptions checks the lists in README.md against the same table.
func TestReadmeListsOptions(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range newConfig().optionGroups() {
		if line := flagLine(g); !strings.Contains(string(text), line+"\n") {
			t.Errorf("README.md lacks the line:\n%s", line)
		}
	}
}

// flagLine formats an option group as one line: the options with their defaults.
func flagLine(g optionGroup) string {
	var options []string
	g.flags.VisitAll(func(f *flag.Flag) {
		option := strings.TrimSpace("-" + f.Name + " " + f.DefValue)
		if f.DefValue == "true" || f.DefValue == "false" {
			option = "-" + f.Name + "=" + f.DefValue // a boolean option takes no separate value
		}
		options = append(options, "`"+option+"`")
	})
	return "- " + g.title + ": " + strings.Join(options, ", ")
}
