package config

import (
	"errors"
	"fmt"
	"strings"
)

// parseFile sets the options that the sources before it do not set.
func (o *Options) parseFile() error {
	if o.file == "" {
		return nil
	}
	text, err := readSmallFile(o.file)
	if err != nil {
		return o.optionError("config", err)
	}
	return o.parseText(o.file, text)
}

// parseText parses the text of a configuration file.
func (o *Options) parseText(file, text string) error {
	var errs []error
	seen := map[string]string{} // position at which each option was set
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		position := fmt.Sprintf("%s:%d", file, n)
		name, value, found := parseLine(line)
		if !found {
			continue
		}
		if err := o.checkLine(name, value, seen[name]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", position, err))
			continue
		}
		seen[name] = position
		errs = append(errs, o.set(name, o.fileValue(name, value), position))
	}
	return errors.Join(errs...)
}

// parseLine splits a line into name and value; found is false for a comment or an
// empty line.
func parseLine(line string) (name, value string, found bool) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", "", false
	}
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		return line[:i], strings.TrimSpace(line[i:]), true
	}
	return line, "", true
}

func (o *Options) checkLine(name, value, before string) error {
	const separator = "write the name and the value separated by a space"
	switch {
	case name == "config" || name == "env-file":
		return errors.New("a configuration file cannot include another one")
	case before != "":
		return fmt.Errorf("%s was already set at %s", name, before)
	case o.settable(name) && (strings.HasPrefix(value, "=") || strings.HasPrefix(value, ":=") || strings.HasPrefix(value, ": ")):
		return fmt.Errorf("-%s: %s, without = or colon", name, separator)
	case o.settable(name):
		return nil
	}
	shown := shorten(name)
	bare, _, hasEquals := strings.Cut(strings.TrimLeft(name, "-"), "=")
	bare = strings.TrimSuffix(bare, ":")
	if len(bare) >= len(envPrefix) && strings.EqualFold(bare[:len(envPrefix)], envPrefix) {
		bare = bare[len(envPrefix):]
	}
	hint := didYouMean(o.nearestSettable(bare))
	switch {
	case hasEquals:
		return fmt.Errorf("unknown option %q; %s, without =%s", shown, separator, hint)
	case strings.HasSuffix(name, ":"):
		return fmt.Errorf("unknown option %q; %s, without colon%s", shown, separator, hint)
	case strings.HasPrefix(name, "-"):
		return fmt.Errorf("unknown option %q; omit the leading dash%s", shown, hint)
	}
	return fmt.Errorf("unknown option %q%s", shown, hint)
}

// fileValue returns "true" for a boolean option without a value, as on the command line.
func (o *Options) fileValue(name, value string) string {
	if value == "" && isBoolean(o.flags.Lookup(name)) {
		return "true"
	}
	return value
}
