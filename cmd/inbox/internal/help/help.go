// Package help has the texts of inbox -h, inbox help and the manual page. The options come from
// the option table of package config.
package help

import (
	"fmt"
	"strings"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/host"
	"inbox/cmd/inbox/internal/nearest"
)

// width is the number of columns of the texts.
const width = 80

// short is the text of inbox -h. It has ten lines.
const short = `inbox is a WebRTC signaling server: peers find each other and connect directly.

  try it on this machine, with a self-signed certificate on port 3000:
    inbox
  public server, with automatic certificates on ports 443 and 80:
    inbox -domain example.org -email me@example.org
  behind a proxy that terminates TLS:
    inbox -https=false -bind 127.0.0.1:3000 -trusted-proxies 127.0.0.1

inbox help lists commands and topics; inbox -h all lists all options.
`

// Text returns the text of a topic: [config.ShortHelp], [config.HelpTopics], a topic of the list,
// an option with or without its dash, or an environment variable. The error of an unknown topic
// names a similar one.
func Text(topic string) (string, error) {
	name := strings.ToLower(topic)
	switch {
	case name == config.ShortHelp:
		return short, nil
	case name == config.HelpTopics || name == "help":
		return overview(), nil
	case name == "man":
		return Man(), nil
	}
	if t, found := findTopic(name); found {
		return t.render(), nil
	}
	if text, found := optionText(topic); found {
		return text, nil
	}
	return "", fmt.Errorf("unknown help topic %q; %s", topic, suggest(topic))
}

// suggest names the topic or the option that a misspelled name means, or else the list of topics.
func suggest(topic string) string {
	names := config.Commands()
	for _, t := range topics() {
		names = append(names, t.name)
	}
	meant := nearest.Of(strings.ToLower(topic), names...)
	if strings.HasPrefix(topic, "-") {
		meant = ""
	}
	if option := config.NearestOption(topic); meant == "" && option != "" {
		meant = "-" + option
	}
	if meant == "" {
		return "inbox help lists the topics"
	}
	return "did you mean " + meant + "?"
}

// overview returns the text of inbox help.
func overview() string {
	var b strings.Builder
	b.WriteString("Usage: inbox [COMMAND] [OPTION...]\n\nCommands:\n")
	writeItem(&b, "inbox", "starts the server")
	for _, t := range topics() {
		if t.usage != "" {
			writeItem(&b, t.usage, t.summary)
		}
	}
	b.WriteString("\nTopics (inbox help TOPIC):\n")
	for _, t := range topics() {
		if t.usage == "" {
			writeItem(&b, t.name, t.summary)
		}
	}
	b.WriteString("\ninbox help -NAME explains one option, as in inbox help -turn-month.\n")
	return b.String()
}

func writeItem(b *strings.Builder, name, summary string) {
	fmt.Fprintf(b, "  %-19s %s\n", name, summary)
}

// optionText returns the text of an option or an environment variable.
func optionText(name string) (string, bool) {
	bare := strings.TrimLeft(name, "-")
	for _, g := range config.Groups() {
		for _, o := range g.Options {
			if o.Name == bare || o.Variable != "" && o.Variable == strings.ToUpper(name) {
				return describe(o), true
			}
		}
	}
	return "", false
}

// describe returns an option with its variable and the accepted values.
func describe(o config.Option) string {
	var b strings.Builder
	writeOption(&b, o)
	if o.Accepts != "" {
		fmt.Fprintf(&b, "%s\n", host.Wrap("Accepts "+o.Accepts+".", optionIndent, width))
	}
	if o.Variable != "" {
		fmt.Fprintf(&b, "%sEnvironment: %s\n", optionIndent, o.Variable)
	}
	return b.String()
}

const optionIndent = "        "

func writeOption(b *strings.Builder, o config.Option) {
	fmt.Fprintf(b, "  %s\n%s\n", heading(o), host.Wrap(meaning(o), optionIndent, width))
}

// heading returns an option with the name of its value.
func heading(o config.Option) string { return strings.TrimSpace("-" + o.Name + " " + o.Value) }

// meaning returns the meaning of an option with its default.
func meaning(o config.Option) string {
	shown := o.Default
	if shown == "" {
		shown = "empty"
	}
	return o.Meaning + " (default " + shown + ")"
}
