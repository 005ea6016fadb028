package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"inbox/internal/atomicfile"
)

// envPrefix is the prefix of environment variables that set options.
const envPrefix = "INBOX_"

// parse builds the configuration from a command line, an environment and the -config
// file that they name. Every error is a usage error; flag.ErrHelp requests the help text.
func parse(args, environ []string) (*config, error) {
	c := newConfig()
	if len(args) > 0 && (args[0] == "version" || args[0] == "doctor") {
		c.version, c.doctor, args = args[0] == "version", args[0] == "doctor", args[1:]
	}
	if err := c.parseArgs(args); err != nil || c.version {
		return c, err
	}
	if err := c.parseEnviron(environ); err != nil {
		return nil, err
	}
	if err := c.parseFile(); err != nil {
		return nil, err
	}
	return c, c.resolve()
}

func (c *config) parseArgs(args []string) error {
	if err := c.flags.Parse(args); err != nil {
		return fmt.Errorf("%w (inbox -h lists the options)", err)
	}
	if c.flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: options begin with a dash; set a boolean option as in "+
			"-cors=false", c.flags.Arg(0))
	}
	c.flags.Visit(func(f *flag.Flag) { c.from[f.Name] = "command line" })
	return nil
}

// parseEnviron sets the options that the command line does not set. An empty
// variable counts as absent. Container platforms inject variables with the same
// prefix, so a variable that matches no option is recorded but is not an error.
func (c *config) parseEnviron(environ []string) error {
	for _, entry := range environ {
		key, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(key, envPrefix) || value == "" {
			continue
		}
		name := optionName(key)
		if !c.settable(name) {
			c.unknownVars = append(c.unknownVars, key)
			continue
		}
		if err := c.set(name, value, key); err != nil {
			return err
		}
	}
	slices.Sort(c.unknownVars)
	return nil
}

// optionName returns the option that a variable sets: INBOX_MAX_BODY_SIZE sets
// max-body-size. It is empty for a name that is not in upper case.
func optionName(key string) string {
	name := strings.TrimPrefix(key, envPrefix)
	if name != strings.ToUpper(name) {
		return ""
	}
	return strings.ToLower(strings.ReplaceAll(name, "_", "-"))
}

// settable reports whether name is an option that the environment or a file can set.
// version is not: it is a command, and container images commonly set INBOX_VERSION.
func (c *config) settable(name string) bool {
	return c.flags.Lookup(name) != nil && name != "version"
}

// set sets an option unless a source of higher precedence has set it.
func (c *config) set(name, value, from string) error {
	if c.from[name] != "" {
		return nil
	}
	if err := c.flags.Set(name, value); err != nil {
		return c.valueError(name, value, from, flagError(err))
	}
	c.from[name] = from
	return nil
}

// flagError replaces the flag package's error for a boolean option.
func flagError(err error) error {
	if err.Error() == "parse error" {
		return errors.New("must be true or false")
	}
	return err
}

func (c *config) valueError(name, value, from string, err error) error {
	return fmt.Errorf("-%s %q (from %s): %w", name, value, from, err)
}

// parseFile sets the options that command line and environment do not set.
func (c *config) parseFile() error {
	if c.file == "" {
		return nil
	}
	text, err := readSmallFile(c.file)
	if err != nil {
		return c.optionError("config", err)
	}
	return c.parseText(c.file, text)
}

// maxFileBytes bounds what is read of a file. No configuration file is nearly as large.
const maxFileBytes = 1 << 20

// readSmallFile reads a file of at most maxFileBytes, so that a device or a large file
// given by mistake does not exhaust memory.
func readSmallFile(path string) (string, error) {
	text, err := atomicfile.Read(path, maxFileBytes)
	return string(text), err
}

// parseText parses the text of a configuration file.
func (c *config) parseText(file, text string) error {
	seen := map[string]string{} // position at which each option was set
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		position := fmt.Sprintf("%s:%d", file, n)
		name, value, found := parseLine(line)
		if !found {
			continue
		}
		if err := c.checkLine(name, seen[name]); err != nil {
			return fmt.Errorf("%s: %w", position, err)
		}
		seen[name] = position
		if err := c.set(name, c.fileValue(name, value), position); err != nil {
			return err
		}
	}
	return nil
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

func (c *config) checkLine(name, before string) error {
	switch {
	case name == "config":
		return errors.New("a configuration file cannot include another one")
	case before != "":
		return fmt.Errorf("%s was already set at %s", name, before)
	case c.settable(name):
		return nil
	case strings.Contains(name, "="):
		return fmt.Errorf("unknown option %q; write the name and the value separated by a space", name)
	case strings.HasPrefix(name, "-"):
		return fmt.Errorf("unknown option %q; omit the leading dash", name)
	}
	return fmt.Errorf("unknown option %q", name)
}

// fileValue returns "true" for a boolean option without a value, as on the command line.
func (c *config) fileValue(name, value string) string {
	b, ok := c.flags.Lookup(name).Value.(interface{ IsBoolFlag() bool })
	if ok && b.IsBoolFlag() && value == "" {
		return "true"
	}
	return value
}
