package doctor

import (
	"encoding/json"
	"fmt"
	"strings"

	"inbox/cmd/inbox/internal/host"
)

// Level says how bad a finding is.
type Level string

// The grades, as -json writes them.
const (
	OK      Level = "ok"
	Warning Level = "warning" // it may well work; exit code 0
	Failure Level = "failure" // it will not; exit code 1
)

// Finding is one line of the doctor, and with -json one object, whose names are
// promised.
type Finding struct {
	Check string `json:"check"`
	Name  string `json:"name"` // what was looked at: a name, an address, a file; may be empty
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Fix   string `json:"fix"` // empty when there is nothing to do
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

// titleOf is what a person reads above the findings of a check.
func titleOf(check string) string {
	titles := map[string]string{
		"source": "What serves", "clock": "Clock", "state": "State directory", "ports": "Ports", "files": "Certificate files",
		"store": "Store",
		"names": "Names in DNS", "ca": "Certificate authority", "caa": "CAA records", "account": "Account at the authority",
		"certificates": "Certificates", "supervisor": "Last orders", "renew-test": "Dry order",
	}
	return titles[check]
}

// Where the text of a finding begins, and where its lines end.
const (
	reportColumn = 11
	reportWidth  = 96
)

// report is what a person reads.
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

// String is the finding in aligned lines: level, text, and below it the mend.
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

// summary sums up in one line.
func summary(findings []Finding) string {
	failures, warnings := plural(tally(findings, Failure), "failure"), plural(tally(findings, Warning), "warning")
	switch {
	case tally(findings, Failure) > 0:
		return fmt.Sprintf("%s, %s. Mend the failures first.", failures, warnings)
	case tally(findings, Warning) > 0:
		return fmt.Sprintf("No failure, %s.", warnings)
	}
	return "All is well."
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// reportJSON is what a program reads: an array, in the order of the report.
func reportJSON(findings []Finding) string {
	text, _ := json.MarshalIndent(findings, "", "  ") // plain strings: cannot fail
	return string(text) + "\n"
}
