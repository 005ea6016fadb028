package config

import (
	"flag"
	"strings"

	"inbox/cmd/inbox/internal/nearest"
)

// synonyms are the names of options in other programs.
var synonyms = map[string]string{
	"addr": "bind", "address": "bind", "listen": "bind", "listen-address": "bind", "port": "bind", "http-port": "http-bind", "host": "domain",
	"hostname": "domain", "hosts": "domain", "server-name": "domain", "fqdn": "domain", "mail": "email", "contact": "email",
	"cert": "server-cert", "cert-file": "server-cert", "certificate": "server-cert", "tls-cert": "server-cert", "ssl-cert": "server-cert",
	"key": "server-key", "key-file": "server-key", "private-key": "server-key", "tls-key": "server-key", "ssl-key": "server-key",
	"tls": "https", "ssl": "https", "agree": "acme-agree", "agree-tos": "acme-agree", "staging": "acme-staging", "ca": "acme-ca",
	"data": "state", "data-dir": "state", "datadir": "state", "state-dir": "state", "root": "public", "static": "public", "www": "public", "html": "public",
	"redis": "store", "redis-url": "store", "stun": "ice-servers", "stun-servers": "ice-servers", "turn-server": "turn", "turn-port": "turn-bind",
	"proxy": "trusted-proxies", "proxies": "trusted-proxies", "real-ip": "client-header", "metrics": "metrics-bind", "metrics-addr": "metrics-bind",
	"metrics-port": "metrics-bind", "memory": "max-memory", "connections": "max-conns", "max-connections": "max-conns",
	"debug": "log-level", "verbose": "log-level", "verbosity": "log-level", "loglevel": "log-level", "log": "log-level", "ttl": "inbox-timeout",
	"v": "version", "conf": "config", "config-file": "config", "environment-file": "env-file",
}

// nearestOption returns the option that a misspelled name means, or "": its synonym, or the
// most similar name. Case, and the choice between dash and underscore, do not count.
func (o *Options) nearestOption(name string) string {
	name = strings.Trim(strings.ToLower(strings.ReplaceAll(name, "_", "-")), "-:=")
	switch {
	case name == "":
		return ""
	case o.flags.Lookup("inbox-"+name) != nil: // INBOX_TIMEOUT for INBOX_INBOX_TIMEOUT
		return "inbox-" + name
	case synonyms[name] != "":
		return synonyms[name]
	}
	return nearest.Name(name, func(yield func(string) bool) {
		done := false
		o.flags.VisitAll(func(f *flag.Flag) { done = done || !yield(f.Name) })
	})
}

// nearestSettable is nearestOption among the options that the environment or a file can set.
func (o *Options) nearestSettable(name string) string {
	if option := o.nearestOption(name); o.settable(option) {
		return option
	}
	return ""
}

// commonVariables are variables of other programs that look like options without the prefix.
var commonVariables = map[string]bool{"LOG_LEVEL": true, "LOG_FORMAT": true, "LOG": true}

// meantVariable returns the variable that sets an option and that the name of an environment
// variable without the prefix INBOX_ means, or "": the prefix has one mistake, or is absent
// before the specific name of an option, such as DOMAIN and MAX_CONNS.
func (o *Options) meantVariable(key string) string {
	if len(key) > 64 || key != strings.ToUpper(key) || commonVariables[key] {
		return ""
	}
	bare := strings.ToLower(strings.ReplaceAll(key, "_", "-"))
	if o.settable(bare) && (strings.Contains(key, "_") || bare == "domain") {
		return variableOf(bare)
	}
	name := strings.NewReplacer("-", "_", ".", "_").Replace(key)
	if rest, found := strings.CutPrefix(name, strings.TrimSuffix(envPrefix, "_")); found {
		name = envPrefix + strings.TrimLeft(rest, "_")
	}
	prefix, rest, found := strings.Cut(name, "_")
	option := strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
	if found && o.settable(option) && nearest.Distance(prefix+"_", envPrefix) <= 1 {
		return variableOf(option)
	}
	return ""
}

// variableOf returns the environment variable that sets an option.
func variableOf(option string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(option, "-", "_"))
}
