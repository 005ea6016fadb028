package help

import (
	"slices"
	"strings"

	"inbox/cmd/inbox/internal/config"
)

// topic is a topic of inbox help. In its text, paragraphs are separated by empty lines, and
// lines that begin with two blanks are examples or tables. Lines have at most 79 columns.
type topic struct {
	name    string
	aliases []string
	summary string
	usage   string // of a command; empty for other topics
	text    string
	groups  []string // titles of the option groups below the text
}

// topics returns all topics, in the order of the overview.
func topics() []topic {
	return []topic{
		{name: "config", usage: "inbox config", summary: "prints the configuration in force and its sources", text: configText},
		{name: "doctor", usage: "inbox doctor", summary: "checks options, ports, DNS, files and certificates", text: doctorText,
			groups: []string{"Only for inbox doctor"}},
		{name: "health", aliases: []string{"healthcheck"}, usage: "inbox health", summary: "asks whether the server on this machine answers", text: healthText},
		{name: "help", usage: "inbox help [TOPIC]", summary: "explains a command, a topic or an option"},
		{name: "invite", aliases: []string{"invitation", "invitations", "access", "private"}, usage: "inbox invite", summary: "makes, lists and revokes invitations to a private server",
			text: inviteText, groups: []string{"Only for inbox invite"}},
		{name: "setup", aliases: []string{"set-up"}, usage: "inbox setup", summary: "configures and starts the installed service", text: setupText,
			groups: []string{"Only for inbox setup"}},
		{name: "status", usage: "inbox status", summary: "prints the state of a running server", text: statusText},
		{name: "version", usage: "inbox version", summary: "prints version, commit, Go version and platform", text: versionText},

		{name: "start", aliases: []string{"examples", "quickstart", "install"}, summary: "ways to run the server", text: startText},
		{name: "server", aliases: []string{"pages", "cors", "ice"}, summary: "options: address, pages, other sites, ICE servers", groups: []string{"Server"}},
		{name: "certificates", aliases: []string{"certificate", "cert", "certs", "acme", "tls", "ssl", "lets-encrypt", "letsencrypt"},
			summary: "options: automatic certificates and files", text: certificatesText,
			groups: []string{"Certificate files", "Automatic certificates (ACME)"}},
		{name: "turn", aliases: []string{"relay", "stun"}, summary: "options: relay for calls between any two networks", text: turnText,
			groups: []string{"Relay (STUN and TURN)"}},
		{name: "mailboxes", aliases: []string{"mailbox", "inboxes", "inbox", "store", "redis"}, summary: "options: mailboxes, and a store for several servers",
			groups: []string{"Mailboxes"}},
		{name: "limits", aliases: []string{"limit", "quotas"}, summary: "options: sizes, rates, connections, memory", text: limitsText,
			groups: []string{"Limits (0: unlimited)"}},
		{name: "proxy", aliases: []string{"proxies", "nginx", "caddy", "haproxy", "reverse-proxy"}, summary: "options: reverse proxies", text: proxyText,
			groups: []string{"Reverse proxy"}},
		{name: "operation", aliases: []string{"log", "logging", "logs", "metrics", "state"}, summary: "options: state, metrics, log, option files",
			groups: []string{"Operation"}},
		{name: "units", aliases: []string{"unit", "sizes", "durations", "duration", "times", "values"}, summary: "times, sizes and bit rates", text: unitsText},
		{name: "environment", aliases: []string{"env", "variables", "sources", "precedence"}, summary: "variables, option files and their precedence", text: environmentText},
		{name: "files", aliases: []string{"file", "paths", "directories"}, summary: "files and directories", text: filesText},
		{name: "signals", aliases: []string{"signal", "reload", "stop"}, summary: "stop, reload", text: signalsText},
		{name: "exit-codes", aliases: []string{"exit-code", "exit", "exit-status", "exitcodes"}, summary: "0, 1 and 2", text: exitText},
		{name: "systemd", aliases: []string{"service", "sockets", "socket"}, summary: "service, sockets, watchdog", text: systemdText},
		{name: "all", aliases: []string{"options", "option", "flags"}, summary: "all options", text: allText, groups: titles()},
		{name: "man", summary: "the manual page, for man -l -"},
	}
}

// titles returns the titles of all option groups.
func titles() (all []string) {
	for _, g := range config.Groups() {
		all = append(all, g.Title)
	}
	return all
}

func findTopic(name string) (topic, bool) {
	all := topics()
	i := slices.IndexFunc(all, func(t topic) bool { return t.name == name || slices.Contains(t.aliases, name) })
	if i < 0 {
		return topic{}, false
	}
	return all[i], true
}

// render returns the text of a topic and its options.
func (t topic) render() string {
	var b strings.Builder
	b.WriteString(t.text)
	for _, g := range config.Groups() {
		if !slices.Contains(t.groups, g.Title) {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		b.WriteString(g.Title + "\n")
		for _, o := range g.Options {
			writeOption(&b, o)
		}
	}
	return b.String()
}
