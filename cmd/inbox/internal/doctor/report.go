package doctor

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"inbox/cmd/inbox/internal/host"
)

// Level is the severity of a finding.
type Level string

// The levels, as they appear in the JSON report.
const (
	OK      Level = "ok"
	Warning Level = "warning" // the server probably works; exit code 0
	Failure Level = "failure" // the server will not work; exit code 1
)

// Finding is the result of one check for one subject. Its JSON names are stable.
type Finding struct {
	Check string `json:"check"`
	Name  string `json:"name"` // the subject: a domain, an address, a file; can be empty
	Level Level  `json:"level"`
	Text  string `json:"text"` // the state found
	Fix   string `json:"fix"`  // what to do; empty if nothing
}

func good(name, text string) Finding { return Finding{Name: name, Level: OK, Text: text} }

func warning(name, text, fix string) Finding {
	return Finding{Name: name, Level: Warning, Text: text, Fix: fix}
}

func failure(name, text, fix string) Finding {
	return Finding{Name: name, Level: Failure, Text: text, Fix: fix}
}

func (f Finding) withCheck(check string) Finding {
	f.Check = check
	return f
}

func tally(findings []Finding, level Level) int {
	n := 0
	for _, f := range findings {
		if f.Level == level {
			n++
		}
	}
	return n
}

// titleOf returns the heading of a check in the text report.
func titleOf(check string) string {
	titles := map[string]string{
		"source": "Certificate source", "options": "Options", "pages": "Pages", "clock": "Clock", "state": "State directory", "ports": "Ports", "open-files": "Open files", "files": "Certificate files",
		"store": "Store", "turn": "STUN and TURN", "access": "Access",
		"names": "DNS names", "ca": "Certificate authority", "caa": "CAA records", "account": "Account at the CA",
		"certificates": "Certificates", "orders": "Last orders", "renew-test": "Test order",
	}
	return titles[check]
}

const (
	reportColumn = 11 // where the text of a finding starts
	reportWidth  = 96
)

// report formats the findings as text.
func report(findings []Finding) string {
	var b strings.Builder
	last := ""
	for _, f := range findings {
		if f.Check != last {
			fmt.Fprintf(&b, "%s\n", titleOf(f.Check))
			last = f.Check
		}
		b.WriteString(f.String())
	}
	fmt.Fprintf(&b, "\n%s\n", summary(findings))
	return b.String()
}

// String formats the finding in aligned lines: level and text, then the fix.
func (f Finding) String() string {
	words := f.Text
	if f.Name != "" {
		words = f.Name + ": " + f.Text
	}
	indent := strings.Repeat(" ", reportColumn)
	head := fmt.Sprintf("  %-*s", reportColumn-2, f.Level)
	lines := head + strings.TrimPrefix(host.Wrap(words, indent, reportWidth), indent) + "\n"
	if f.Fix != "" {
		lines += host.Wrap(f.Fix, indent+"  ", reportWidth) + "\n"
	}
	return lines
}

func summary(findings []Finding) string {
	failures, warnings := plural(tally(findings, Failure), "failure"), plural(tally(findings, Warning), "warning")
	switch {
	case tally(findings, Failure) > 0:
		return fmt.Sprintf("%s, %s. Fix the failures first.", failures, warnings)
	case tally(findings, Warning) > 0:
		return fmt.Sprintf("No failures, %s.", warnings)
	}
	return "No problems found."
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// reportJSON formats the findings as a JSON array in the order of the report.
func reportJSON(findings []Finding) string {
	text, _ := json.MarshalIndent(findings, "", "  ") // cannot fail for strings
	return string(text) + "\n"
}

// roughDuration formats a duration in days, hours or minutes.
func roughDuration(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return plural(int(d/(24*time.Hour)), "day")
	case d >= 2*time.Hour:
		return plural(int(d/time.Hour), "hour")
	}
	return plural(int(d/time.Minute), "minute")
}
