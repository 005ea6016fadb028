package help

import (
	"os/exec"
	"strings"
	"testing"

	"inbox/cmd/inbox/internal/config"
)

// TestManIsInStep checks that the manual page has all options, commands and sections.
func TestManIsInStep(t *testing.T) {
	page := Man()
	if !strings.HasPrefix(page, `.TH INBOX 1 "" "inbox" "User Commands"`+"\n.SH NAME\ninbox \\- WebRTC signaling server\n") {
		t.Errorf("the page begins with %.100q", page)
	}
	at := 0
	for _, g := range config.Groups() {
		for _, o := range g.Options {
			entry := ".TP\n.B " + escape(heading(o)) + "\n" + escape(meaning(o)) + "\n"
			i := strings.Index(page[at:], entry)
			if i < 0 {
				t.Errorf("the page lacks, in this order:\n%s", entry)
				continue
			}
			at += i
		}
	}
	for _, want := range []string{
		".SS inbox config\n", ".SS inbox doctor\n", ".SS inbox status\n", ".SH EXAMPLES\n", ".SH UNITS\n", ".SH ENVIRONMENT\n", ".SH FILES\n", ".SH SIGNALS\n", ".SH EXIT STATUS\n",
		"/etc/inbox/inbox.env", "INBOX_INBOX_TIMEOUT=2m", `inbox \-domain example.org \-email me@example.org`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// TestManIsValidRoff checks that each line is a known macro or text, and renders the page where
// a formatter is installed.
func TestManIsValidRoff(t *testing.T) {
	macros := []string{".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".nf", ".fi", ".br"}
	for line := range strings.Lines(Man()) {
		name, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if strings.HasPrefix(line, "'") || strings.HasPrefix(line, ".") && !strings.Contains(strings.Join(macros, " ")+" ", name+" ") {
			t.Errorf("unknown macro in %q", line)
		}
	}
	for _, formatter := range [][]string{{"groff", "-man", "-Tascii", "-ww", "-z"}, {"mandoc", "-Tlint", "-Wwarning"}} {
		path, err := exec.LookPath(formatter[0])
		if err != nil {
			continue // the macros are checked above
		}
		cmd := exec.Command(path, formatter[1:]...)
		cmd.Stdin = strings.NewReader(Man())
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", formatter[0], err, out)
		}
	}
}
