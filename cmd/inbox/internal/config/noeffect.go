package config

import (
	"flag"
	"slices"
	"strings"
)

// noEffect lists the conditions in which an option has no effect. An option that is an
// error in the same condition, like -store-ca without -store, is not listed.
var noEffect = []struct {
	options []string
	applies func(*resolver) bool
	fix     string
}{
	{
		[]string{"email", "acme", "acme-agree", "acme-ca", "acme-root", "acme-eab-kid", "acme-eab-key", "acme-fallback-ca", "acme-fallback-root",
			"acme-fallback-eab-kid", "acme-fallback-eab-key", "acme-challenge", "acme-profile", "acme-staging", "acme-staging-first", "acme-preflight"},
		func(r *resolver) bool { return len(r.c.Domains) == 0 },
		"set -domain, or remove the option",
	},
	{
		[]string{"acme-fallback-root", "acme-fallback-eab-kid", "acme-fallback-eab-key"},
		func(r *resolver) bool { return r.o.acme.fallback.URL == "" },
		"set -acme-fallback-ca, or remove the option",
	},
	{
		[]string{"acme-staging-first"},
		func(r *resolver) bool { return r.o.acme.ca.URL != "" || r.o.acme.staging },
		"remove the option: only the production environment of Let's Encrypt has a staging environment",
	},
	{
		[]string{"server-cert", "server-key"},
		func(r *resolver) bool { return !r.o.https },
		"remove the option, or -https=false",
	},
	{
		[]string{"poll-timeout"},
		func(r *resolver) bool { return !r.o.longPolling },
		"remove the option, or -long-polling=false",
	},
	{
		[]string{"burst"},
		func(r *resolver) bool { return r.o.rate == 0 },
		"remove the option, or -rate 0",
	},
	{
		[]string{"rate-dry-run"},
		func(r *resolver) bool { return r.o.rate == 0 && r.o.connRate == 0 && r.o.maxConnsPerIP == 0 },
		"remove the option, or enable a limit per client address",
	},
	{
		[]string{"client-header"},
		func(r *resolver) bool { return len(r.c.TrustedProxies) == 0 && !r.mayServeUnixSocket() },
		"set -trusted-proxies, or remove the option",
	},
	{
		[]string{"turn-bind", "turn-rate", "turn-month"},
		func(r *resolver) bool { return r.c.TURN == nil },
		"set -turn to the name of this server, or remove the option",
	},
	{
		[]string{"turn-rate", "turn-month"},
		func(r *resolver) bool { return r.c.TURN != nil && !r.c.TURN.Relay },
		"remove the option: another server is the relay",
	},
	{
		[]string{"metrics-hosts"},
		func(r *resolver) bool { return r.o.metricsBind == "" && !r.hasPassedSockets() },
		"set -metrics-bind, or remove the option",
	},
	{
		[]string{"max-inboxes-per-ip"},
		func(r *resolver) bool { return exceeds(r.o.maxInboxesPerIP, r.o.maxInboxes) },
		"lower the option below -max-inboxes",
	},
	{
		[]string{"max-queued-bytes-per-ip"},
		func(r *resolver) bool { return exceeds(r.o.maxQueuedBytesPerIP, r.c.Mailboxes.MaxQueuedBytes) },
		"lower the option below -max-queued-bytes",
	},
}

// exceeds reports whether a limit per address is never reached, because the limit for all
// is reached first. 0 is unlimited.
func exceeds(perAddress, total int64) bool {
	return total > 0 && (perAddress == 0 || perAddress > total)
}

// warnNoEffect collects the options that are given and have no effect. A value that equals
// the default is no mistake. It needs the resolved configuration.
func (r *resolver) warnNoEffect() {
	for _, condition := range noEffect {
		if !condition.applies(r) {
			continue
		}
		for _, name := range condition.options {
			if f := r.o.flags.Lookup(name); r.o.from[name] != "" && !r.warnsOf(f) && f.Value.String() != f.DefValue {
				r.c.Warnings = append(r.c.Warnings, Warning{"option has no effect", "-" + name, r.o.from[name], condition.fix})
			}
		}
	}
}

func (r *resolver) warnsOf(f *flag.Flag) bool {
	return slices.ContainsFunc(r.c.Warnings, func(w Warning) bool { return w.Name == "-"+f.Name })
}

// hasPassedSockets reports whether systemd passes sockets, whose kind is not known yet.
func (r *resolver) hasPassedSockets() bool { return r.facts.Getenv("LISTEN_FDS") != "" }

// mayServeUnixSocket reports whether peers can connect over a Unix socket. They are trusted.
func (r *resolver) mayServeUnixSocket() bool { return r.c.Bind.isUnix() || r.hasPassedSockets() }

// warnUnknownVars collects the environment variables that look like options.
func (r *resolver) warnUnknownVars() {
	for _, v := range r.o.unknownVars {
		if option := optionName(v.meant); r.o.from[option] != "" && !strings.HasPrefix(strings.ToUpper(v.name), envPrefix) {
			continue // a variable of another program: the option is set
		}
		w := Warning{Text: "unknown environment variable", Name: printable(v.name), Fix: "remove the variable, or correct its name; inbox -h all lists the options"}
		if v.meant != "" {
			w.Fix = "did you mean " + v.meant + "?"
		}
		if v.from != v.name { // a line of the -env-file
			w.From = v.from
		}
		r.c.Warnings = append(r.c.Warnings, w)
	}
}
