package config

import (
	"errors"
	"flag"
	"fmt"
)

// GivenOption is an option of the command line.
type GivenOption struct{ Variable, Value string }

// Given returns the options that [Setup] writes to the environment file of the service: those of
// the command line, by name. Options that a service cannot have are errors.
func (o *Options) Given() (given []GivenOption, err error) {
	var errs []error
	o.flags.VisitAll(func(f *flag.Flag) {
		switch {
		case o.from[f.Name] != fromCommandLine || f.Name == "dry-run":
		case !o.settable(f.Name) || f.Name == "config" || f.Name == "json" || f.Name == "renew-test":
			errs = append(errs, fmt.Errorf("-%s (from %s): does not apply to inbox setup", f.Name, fromCommandLine))
		default:
			given = append(given, GivenOption{variableOf(f.Name), o.given[f.Name]})
		}
	})
	return given, errors.Join(errs...)
}

// DryRun reports whether [Setup] must not change anything.
func (o *Options) DryRun() bool { return o.dryRun }

// ParseService returns the options of a service with an environment file of this text. file is its
// path, for errors.
func ParseService(file, text string) (*Options, error) {
	o := defaultOptions()
	if err := o.parseAssignments(file, text); err != nil {
		return nil, err
	}
	return o, nil
}
