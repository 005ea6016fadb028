package config

import (
	"flag"
	"strings"
)

// Group is a set of related options, in the order of the help text.
type Group struct {
	Title   string
	Options []Option
}

// Option describes an option.
type Option struct {
	Name     string // without dash
	Value    string // names the value, such as file; empty for a switch
	Meaning  string
	Default  string
	Variable string // environment variable that sets it; empty: none does
	Accepts  string // accepted values, as the end of a sentence; empty: any text
}

// Groups describes all options.
func Groups() []Group {
	o := defaultOptions()
	var groups []Group
	for _, g := range o.groups {
		group := Group{Title: g.title}
		g.flags.VisitAll(func(f *flag.Flag) { group.Options = append(group.Options, o.describe(f)) })
		groups = append(groups, group)
	}
	return groups
}

func (o *Options) describe(f *flag.Flag) Option {
	option := Option{Name: f.Name, Default: f.DefValue}
	option.Value, option.Meaning = flag.UnquoteUsage(f)
	if v, ok := f.Value.(interface{ Accepts() string }); ok {
		option.Accepts = v.Accepts()
	} else if isBoolean(f) {
		option.Accepts = "true or false"
	}
	if o.settable(f.Name) {
		option.Variable = variableOf(f.Name)
	}
	return option
}

// NearestOption returns the option that a misspelled name or environment variable means, or "".
func NearestOption(name string) string {
	o := defaultOptions()
	if rest, isVariable := strings.CutPrefix(name, envPrefix); isVariable {
		name = rest
	}
	return o.nearestOption(name)
}
