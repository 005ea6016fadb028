package config

import (
	"flag"
	"strconv"
	"strings"

	"inbox/cmd/inbox/internal/units"
)

// Setting is an option with the value in force.
type Setting struct {
	Group, Name string
	// Value has units and no password. It is printable, and "" in quotes if it is empty.
	Value string
	// From is the source of the value: command line, the environment variable, FILE:LINE of the
	// -env-file or the -config file, or default, with the reason if the default depends on others.
	From string
}

// Settings returns the configuration in force, which o was resolved to, in the order of the
// help text. The options of other commands are not included.
func Settings(o *Options, c *Config, getenv func(name string) string) []Setting {
	var all []Setting
	derived := derivedValues(o, c, getenv)
	for _, g := range o.groups {
		if g.title == doctorGroup || g.title == setupGroup {
			continue
		}
		g.flags.VisitAll(func(f *flag.Flag) {
			if f.Name != "version" {
				all = append(all, o.setting(g.title, f, derived[f.Name]))
			}
		})
	}
	return all
}

// derivedValue is the value of an option that follows from others, and why.
type derivedValue struct{ value, because string }

func (o *Options) setting(group string, f *flag.Flag, derived derivedValue) Setting {
	s := Setting{Group: group, Name: f.Name, Value: f.Value.String(), From: o.from[f.Name]}
	if v, ok := f.Value.(interface{ FormatUnit() string }); ok {
		s.Value = v.FormatUnit()
	}
	if s.From == "" {
		s.From = "default"
	}
	if derived.because != "" {
		s.Value, s.From = derived.value, s.From+" ("+derived.because+")"
	}
	s.Value = Mask(s.Value)
	if s.Value == "" || strings.ContainsFunc(s.Value, func(c rune) bool { return !strconv.IsPrint(c) }) {
		s.Value = strconv.Quote(s.Value)
	}
	return s
}

// derivedValues returns the values that differ from the text or the default of their options.
func derivedValues(o *Options, c *Config, getenv func(name string) string) map[string]derivedValue {
	derived := map[string]derivedValue{}
	set := func(name, value, because string, applies bool) {
		if applies {
			derived[name] = derivedValue{value, because}
		}
	}
	hasDomain := len(c.Domains) > 0
	set("bind", c.Bind.Value, "with -domain", hasDomain && c.Bind.From == "")
	set("http-bind", "", "without -domain", !hasDomain)
	set("poll-timeout", units.Seconds.FormatUnit(int64(c.PollTimeout)), "half of -inbox-timeout", o.longPolling && c.PollTimeout != o.pollTimeout)
	set("public", "", "built-in pages", c.PagesDir == "" && o.from["public"] == "")
	set("max-memory", units.Bytes.FormatUnit(c.MaxMemoryBytes), "auto", o.maxMemory == auto)
	set("max-queued-bytes", units.Bytes.FormatUnit(c.Mailboxes.MaxQueuedBytes), "auto", o.maxQueuedBytes == auto)
	set("max-conns", strconv.Itoa(c.MaxConns), "auto", o.maxConns == auto)
	set("turn", "off", "auto: "+c.NoTURN, o.turn == "auto" && c.TURN == nil)
	set("turn", "on", "auto", o.turn == "auto" && c.TURN != nil)
	set("state", c.StateDir, "$STATE_DIRECTORY", o.state == "" && getenv("STATE_DIRECTORY") != "")
	set("state", c.StateDir, "of the user", o.state == "" && getenv("STATE_DIRECTORY") == "")
	return derived
}
