package help

import (
	"strings"

	"inbox/cmd/inbox/internal/config"
)

// manual lists the sections of the manual page whose text is that of a topic.
var manual = []struct{ section, topic string }{
	{"EXAMPLES", "start"},
	{"COMMANDS", ""},
	{"OPTIONS", ""},
	{"UNITS", "units"},
	{"ENVIRONMENT", "environment"},
	{"FILES", "files"},
	{"SIGNALS", "signals"},
	{"EXIT STATUS", "exit-codes"},
	{"SYSTEMD", "systemd"},
}

const manDescription = `inbox is a WebRTC signaling server. Peers exchange offers, answers and ICE
candidates through named mailboxes until they are connected directly. The
server also serves pages that show a camera on another screen.

Without options it listens on port 3000 of all addresses, over HTTPS with a
self-signed certificate, and prints the links to open.

The log is written to standard error. It contains no names, passwords, messages
or complete addresses.
`

// Man returns the manual page inbox(1) in the macros of man(7). scripts/package completes its
// first line with version and date.
func Man() string {
	m := &roff{}
	m.line(`.TH INBOX 1 "" "inbox" "User Commands"`)
	m.section("NAME", "inbox - WebRTC signaling server\n")
	m.section("SYNOPSIS", "")
	for _, synopsis := range []string{"", "config", "doctor", "health", "setup", "status"} {
		m.line(strings.TrimSpace(".B inbox " + synopsis))
		m.line("[\\fIOPTION\\fR...]\n.br")
	}
	m.line(".B inbox help\n[\\fITOPIC\\fR]\n.br\n.B inbox version")
	m.section("DESCRIPTION", manDescription)
	for _, s := range manual {
		t, _ := findTopic(s.topic)
		m.section(s.section, t.text)
		switch s.section {
		case "COMMANDS":
			m.commands()
		case "OPTIONS":
			m.options()
		}
	}
	m.section("SEE ALSO", "The documentation in /usr/share/doc/inbox.\n")
	return m.b.String()
}

// roff writes the macros of man(7).
type roff struct{ b strings.Builder }

func (m *roff) line(text string) { m.b.WriteString(text + "\n") }

func (m *roff) section(title, text string) {
	m.line(".SH " + title)
	m.paragraphs(text)
}

// paragraphs writes a text in the form of topics.
func (m *roff) paragraphs(text string) {
	for i, paragraph := range strings.Split(strings.TrimSuffix(text, "\n"), "\n\n") {
		if i > 0 {
			m.line(".PP")
		}
		if strings.HasPrefix(paragraph, "  ") {
			m.line(".nf\n" + escape(paragraph) + "\n.fi")
		} else if paragraph != "" {
			m.line(escape(paragraph))
		}
	}
}

func (m *roff) commands() {
	for _, t := range topics() {
		if t.usage != "" && t.text != "" {
			m.line(".SS " + escape(t.usage))
			m.paragraphs(t.text)
		}
	}
}

func (m *roff) options() {
	for _, g := range config.Groups() {
		m.line(".SS " + escape(g.Title))
		for _, o := range g.Options {
			m.line(".TP\n.B " + escape(heading(o)))
			m.line(escape(meaning(o)))
		}
	}
}

// escape escapes text for roff.
func escape(text string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
