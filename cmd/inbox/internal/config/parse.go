package config

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"inbox/internal/atomicfile"
)

// Parse reads the options from a command line, an environment and the -config file
// that they name, in this order of precedence. Every error is a usage error;
// [flag.ErrHelp] requests the help text.
func Parse(args, environ []string) (*Options, error) {
	o := defaultOptions()
	if len(args) > 0 {
		switch args[0] {
		case "doctor":
			o.Command, args = Doctor, args[1:]
		case "version":
			o.Command, args = Version, args[1:]
		}
	}
	if err := o.parseArgs(args); err != nil {
		return nil, err
	}
	if o.version {
		o.Command = Version
	}
	if o.Command == Version {
		return o, nil
	}
	if err := o.parseEnviron(environ); err != nil {
		return nil, err
	}
	if err := o.parseFile(); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *Options) parseArgs(args []string) error {
	if err := o.flags.Parse(args); err != nil {
		return fmt.Errorf("%w (%sinbox -h lists the options)", err, o.suggestFlag(err))
	}
	if o.flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: options begin with a dash; set a boolean option as in "+
			"-cors=false", o.flags.Arg(0))
	}
	var err error
	o.flags.Visit(func(f *flag.Flag) {
		o.from[f.Name] = "command line"
		err = cmp.Or(err, checkQuotes(f.Name, f.Value.String(), o.from[f.Name]))
	})
	return err
}

// suggestFlag returns a suggestion for an unknown option of the command line.
func (o *Options) suggestFlag(err error) string {
	_, name, found := strings.Cut(err.Error(), "flag provided but not defined: -")
	if nearest := o.nearestOption(name); found && nearest != "" {
		return "did you mean -" + nearest + "? "
	}
	return ""
}

// parseEnviron sets the options that the command line does not set. An empty
// variable counts as absent. Other programs use the same prefix, so a variable that
// matches no option is recorded but is not an error.
func (o *Options) parseEnviron(environ []string) error {
	for _, entry := range environ {
		key, value, _ := strings.Cut(entry, "=")
		if len(key) < len(envPrefix) || !strings.EqualFold(key[:len(envPrefix)], envPrefix) || value == "" {
			continue
		}
		name := optionName(key)
		if !o.settable(name) {
			if !isInjected(key, value) {
				o.unknownVars = append(o.unknownVars, key)
			}
			continue
		}
		if err := o.set(name, value, key); err != nil {
			return err
		}
	}
	slices.Sort(o.unknownVars)
	return nil
}

// isInjected reports whether a variable comes from a container platform: Kubernetes and
// Docker describe a service named inbox in variables such as INBOX_SERVICE_HOST and
// INBOX_PORT=tcp://10.0.0.1:80, and images commonly set INBOX_VERSION.
func isInjected(key, value string) bool {
	name := strings.TrimPrefix(key, envPrefix)
	_, isURL := strings.CutPrefix(strings.ToLower(value), "tcp://")
	return name == "VERSION" || name == "PORT" && isURL ||
		strings.HasPrefix(name, "PORT_") || strings.HasPrefix(name, "SERVICE_") || strings.HasPrefix(name, "ENV_")
}

// optionName returns the option that a variable sets: INBOX_MAX_BODY_SIZE sets
// max-body-size. It is empty for a name that is not in upper case.
func optionName(key string) string {
	name := strings.TrimPrefix(key, envPrefix)
	if key != strings.ToUpper(key) {
		return ""
	}
	return strings.ToLower(strings.ReplaceAll(name, "_", "-"))
}

// set sets an option unless a source of higher precedence has set it.
func (o *Options) set(name, value, from string) error {
	if o.from[name] != "" {
		return nil
	}
	if err := checkQuotes(name, value, from); err != nil {
		return err
	}
	if err := checkComment(name, value, from); err != nil {
		return err
	}
	if err := o.flags.Set(name, value); err != nil {
		return o.valueError(name, value, from, flagError(err))
	}
	o.from[name] = from
	return nil
}

// checkQuotes rejects a value in quotation marks. A shell removes them, but neither
// Docker's --env-file nor this program's files do. The error does not repeat the value,
// which can contain a password.
func checkQuotes(name, value, from string) error {
	value = strings.TrimSpace(value)
	const opening, closing = "\"'`“„‘«", "\"'`”“’»"
	first, _ := utf8.DecodeRuneInString(value)
	last, _ := utf8.DecodeLastRuneInString(value)
	if utf8.RuneCountInString(value) > 1 && strings.ContainsRune(opening, first) && strings.ContainsRune(closing, last) {
		return fmt.Errorf("-%s (from %s): the value is in quotation marks; remove them", name, from)
	}
	return nil
}

// checkComment rejects a comment behind a value in the environment or a file, which would
// become a part of it.
func checkComment(name, value, from string) error {
	if strings.Contains(value, " #") || strings.Contains(value, "\t#") {
		return fmt.Errorf("-%s (from %s): the value contains a space and #; write comments on lines of their own", name, from)
	}
	return nil
}

// flagError replaces the flag package's error for a boolean option.
func flagError(err error) error {
	if err.Error() == "parse error" {
		return errors.New("must be true or false")
	}
	return err
}

// optionError returns an error that names an option, its value and the source of the value.
func (o *Options) optionError(name string, why error) error {
	from := o.from[name]
	if from == "" {
		from = "default"
	}
	return o.valueError(name, o.flags.Lookup(name).Value.String(), from, why)
}

func (o *Options) valueError(name, value, from string, err error) error {
	return fmt.Errorf("-%s %q (from %s): %w", name, value, from, err)
}

// parseFile sets the options that command line and environment do not set.
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

// maxFileBytes bounds what is read of a file. No configuration file is nearly as large.
const maxFileBytes = 1 << 20

// readSmallFile reads a file of at most maxFileBytes, so that a device or a large file
// given by mistake does not exhaust memory.
func readSmallFile(path string) (string, error) {
	text, err := atomicfile.Read(path, maxFileBytes)
	return string(text), err
}

// parseText parses the text of a configuration file.
func (o *Options) parseText(file, text string) error {
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
			return fmt.Errorf("%s: %w", position, err)
		}
		seen[name] = position
		if err := o.set(name, o.fileValue(name, value), position); err != nil {
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

func (o *Options) checkLine(name, value, before string) error {
	const separator = "write the name and the value separated by a space"
	switch {
	case name == "config":
		return errors.New("a configuration file cannot include another one")
	case before != "":
		return fmt.Errorf("%s was already set at %s", name, before)
	case o.settable(name) && (strings.HasPrefix(value, "=") || strings.HasPrefix(value, ":=") || strings.HasPrefix(value, ": ")):
		return fmt.Errorf("-%s: %s, without = or colon", name, separator)
	case o.settable(name):
		return nil
	case strings.Contains(name, "="):
		return fmt.Errorf("unknown option %q; %s, without =", name, separator)
	case strings.HasSuffix(name, ":"):
		return fmt.Errorf("unknown option %q; %s, without colon", name, separator)
	case strings.HasPrefix(name, "-"):
		return fmt.Errorf("unknown option %q; omit the leading dash", name)
	}
	if nearest := o.nearestOption(strings.TrimPrefix(strings.ToUpper(name), envPrefix)); nearest != "" {
		return fmt.Errorf("unknown option %q; did you mean %s?", name, nearest)
	}
	return fmt.Errorf("unknown option %q", name)
}

// fileValue returns "true" for a boolean option without a value, as on the command line.
func (o *Options) fileValue(name, value string) string {
	b, ok := o.flags.Lookup(name).Value.(interface{ IsBoolFlag() bool })
	if ok && b.IsBoolFlag() && value == "" {
		return "true"
	}
	return value
}
