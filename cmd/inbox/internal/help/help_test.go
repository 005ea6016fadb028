package help

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"inbox/cmd/inbox/internal/config"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGolden compares texts with the files of testdata. go test -update writes them.
func TestGolden(t *testing.T) {
	for file, topic := range map[string]string{
		"short": config.ShortHelp, "topics": config.HelpTopics, "start": "start", "config": "config", "doctor": "doctor", "status": "status", "units": "units",
		"environment": "environment", "files": "files", "signals": "signals", "exit-codes": "exit-codes", "systemd": "systemd", "proxy": "proxy",
		"turn-month": "-turn-month", "max-memory": "INBOX_MAX_MEMORY",
	} {
		checkGolden(t, filepath.Join("testdata", file+".txt"), mustText(t, topic))
	}
}

// TestPackagedManual compares the manual page with that of the packages. go test -update writes it.
func TestPackagedManual(t *testing.T) { checkGolden(t, "../../../../scripts/packaging/inbox.1", Man()) }

// checkGolden compares a text with a file, or writes it with -update.
func checkGolden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant %s:\n%s", got, path, want)
	}
}

func mustText(t *testing.T, topic string) string {
	t.Helper()
	text, err := Text(topic)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestFirstScreen checks that -h has ten lines, which name three ways to run the server and
// where to find more.
func TestFirstScreen(t *testing.T) {
	text := mustText(t, config.ShortHelp)
	if lines := strings.Count(text, "\n"); lines != 10 || !strings.HasSuffix(text, "\n") {
		t.Errorf("got %d lines, want 10:\n%s", lines, text)
	}
	if commands := regexp.MustCompile(`(?m)^    inbox( -.*)?$`).FindAllString(text, -1); len(commands) != 3 {
		t.Errorf("got the commands %q, want three", commands)
	}
	if !strings.Contains(text, "inbox help") || !strings.Contains(text, "inbox -h all") {
		t.Errorf("the text does not name the other help:\n%s", text)
	}
}

// TestColumns checks that all texts fit into 80 columns, and that the list of topics is short.
func TestColumns(t *testing.T) {
	names := []string{config.ShortHelp, config.HelpTopics}
	for _, topic := range topics() {
		if topic.name != "man" {
			names = append(names, topic.name)
		}
	}
	for _, name := range names {
		for line := range strings.Lines(mustText(t, name)) {
			if utf8.RuneCountInString(line) > 80+1 || strings.Contains(line, "\t") || strings.HasSuffix(line, " \n") {
				t.Errorf("%q: line of %d columns, with a tab or with a blank at its end: %s", name, utf8.RuneCountInString(line)-1, line)
			}
		}
	}
	if lines := strings.Count(mustText(t, config.HelpTopics), "\n"); lines > 32 {
		t.Errorf("the list of topics has %d lines, want at most 32", lines)
	}
}

// TestAllOptions checks that -h all lists each option with its default.
func TestAllOptions(t *testing.T) {
	rest := mustText(t, "all")
	for _, g := range config.Groups() {
		_, after, found := strings.Cut(rest, "\n"+g.Title+"\n")
		if !found {
			t.Errorf("group %q is missing or out of order", g.Title)
			continue
		}
		rest = after
		section, _, _ := strings.Cut(after, "\n\n")
		for _, o := range g.Options {
			var entry strings.Builder
			writeOption(&entry, o)
			if !strings.Contains(section, strings.TrimSuffix(entry.String(), "\n")) {
				t.Errorf("group %q lacks\n%s", g.Title, entry.String())
			}
		}
	}
}

// TestTopics checks that each command and each group has a topic, that names are unique, and that
// synonyms lead to a topic.
func TestTopics(t *testing.T) {
	seen := map[string]bool{}
	inTopic := map[string]int{}
	for _, topic := range topics() {
		for _, name := range append(slices.Clone(topic.aliases), topic.name) {
			if seen[name] {
				t.Errorf("two topics have the name %s", name)
			}
			seen[name] = true
			if mustText(t, strings.ToUpper(name)) == "" {
				t.Errorf("the topic %s is empty", name)
			}
		}
		for _, title := range topic.groups {
			if topic.name != "all" {
				inTopic[title]++
			}
		}
	}
	for _, command := range config.Commands() {
		if !seen[command] {
			t.Errorf("the command %s has no topic", command)
		}
	}
	for _, title := range titles() {
		if inTopic[title] != 1 {
			t.Errorf("the group %q is in %d topics, want one", title, inTopic[title])
		}
		delete(inTopic, title)
	}
	if len(inTopic) > 0 {
		t.Errorf("topics name unknown groups: %v", inTopic)
	}
}

// TestEveryOptionHasHelp asks for each option by its name and by its variable.
func TestEveryOptionHasHelp(t *testing.T) {
	for _, g := range config.Groups() {
		for _, o := range g.Options {
			for _, name := range []string{"-" + o.Name, "--" + o.Name, o.Variable} {
				if name != "" && !strings.Contains(mustText(t, name), "-"+o.Name) {
					t.Errorf("help %s: got %s", name, mustText(t, name))
				}
			}
		}
	}
}

func TestUnknownTopics(t *testing.T) {
	for topic, want := range map[string]string{
		"proxie": "did you mean proxy?", "singals": "did you mean signals?", "-turn-moth": "did you mean -turn-month?", "port": "did you mean -bind?",
		"INBOX_DOMIAN": "did you mean -domain?", "docter": "did you mean doctor?", "xyzzy": "inbox help lists the topics",
	} {
		if text, err := Text(topic); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q and %v, want an error with %q", topic, text, err, want)
		}
	}
}

// mentioned matches an option in a text.
var mentioned = regexp.MustCompile(`(?:^|[ (\n])-([a-z][a-z-]+)`)

// TestTextsNameExistingOptions checks the options in the texts and in the examples.
func TestTextsNameExistingOptions(t *testing.T) {
	known := []string{"h"}
	for _, g := range config.Groups() {
		for _, o := range g.Options {
			known = append(known, o.Name)
		}
	}
	for _, topic := range append(topics(), topic{name: "short", text: short}) {
		for _, m := range mentioned.FindAllStringSubmatch(topic.text, -1) {
			if !slices.Contains(known, m[1]) {
				t.Errorf("the topic %s names -%s, which is no option", topic.name, m[1])
			}
		}
	}
}

// TestExamplesAreAccepted parses each command of the texts.
func TestExamplesAreAccepted(t *testing.T) {
	count := 0
	for _, topic := range append(topics(), topic{name: "short", text: short}) {
		for line := range strings.Lines(topic.text) {
			command, found := strings.CutPrefix(strings.TrimSpace(line), "inbox ")
			if !found || !strings.HasPrefix(line, "  ") || strings.Contains(command, "  ") || strings.Contains(command, "-env-file") {
				continue
			}
			count++
			if _, err := config.Parse(strings.Fields(command), nil); err != nil {
				t.Errorf("%s: inbox %s: %v", topic.name, command, err)
			}
		}
	}
	if count < 7 {
		t.Errorf("got %d examples, want at least 7", count)
	}
}
