package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"inbox/internal/atomicfile"
)

// Parse reads the options from a command line, an environment, the -env-file and the -config
// file, in this order of precedence. Every error is a usage error; several are joined, one line
// each. With the commands [Help], [Setup] and [Version], only the command line is read.
func Parse(args, environ []string) (*Options, error) {
	o := defaultOptions()
	args = o.parseCommand(args)
	if o.Command == Help {
		o.requestHelp(args, Help)
		return o, nil
	}
	errs := []error{o.parseArgs(args)}
	if o.version {
		o.Command = Version
	}
	if o.Command == Version {
		errs = append(errs, o.refuseOptions())
	}
	if o.Command != Help && o.Command != Setup && o.Command != Version {
		errs = append(errs, o.parseEnviron(environ), o.parseEnvFile(), o.parseFile())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return o, nil
}

// parseEnviron sets the options that the command line does not set. An empty
// variable counts as absent. Other programs use the same prefix, so a variable that
// matches no option is recorded but is not an error.
func (o *Options) parseEnviron(environ []string) error {
	var errs []error
	for _, entry := range environ {
		key, value, _ := strings.Cut(entry, "=")
		errs = append(errs, o.setVariable(key, value, key))
	}
	slices.SortFunc(o.unknownVars, func(a, b unknownVar) int { return strings.Compare(a.name, b.name) })
	return errors.Join(errs...)
}

// unknownVar is a variable that matches no option.
type unknownVar struct{ name, from, meant string }

// setVariable sets the option of a variable, or records the variable.
func (o *Options) setVariable(key, value, from string) error {
	if value == "" {
		return nil
	}
	if len(key) < len(envPrefix) || !strings.EqualFold(key[:len(envPrefix)], envPrefix) {
		if meant := o.meantVariable(key); meant != "" {
			o.unknownVars = append(o.unknownVars, unknownVar{key, from, meant})
		}
		return nil
	}
	if name := optionName(key); o.settable(name) {
		return o.set(name, value, from)
	}
	if !isInjected(key, value) {
		unknown := unknownVar{name: key, from: from}
		if option := o.nearestSettable(key[len(envPrefix):]); option != "" {
			unknown.meant = variableOf(option)
		}
		o.unknownVars = append(o.unknownVars, unknown)
	}
	return nil
}

// isInjected reports whether a variable comes from a container platform: Kubernetes and
// Docker describe a service named inbox in variables such as INBOX_SERVICE_HOST and
// INBOX_PORT=tcp://10.0.0.1:80, and images commonly set INBOX_VERSION.
func isInjected(key, value string) bool {
	name := strings.TrimPrefix(key, envPrefix)
	_, isURL := strings.CutPrefix(strings.ToLower(value), "tcp://")
	return name == "VERSION" || name == "PORT" && isURL || strings.HasPrefix(name, "PORT_") ||
		strings.HasPrefix(name, "SERVICE_") || strings.HasPrefix(name, "ENV_") && name != "ENV_FILE"
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
	if err := checkComment(name, value, from); err != nil {
		o.from[name] = from
		return err
	}
	return o.assign(name, value, from)
}

// assign sets an option. A wrong value counts as given, so that no other source hides it.
func (o *Options) assign(name, value, from string) error {
	o.from[name], o.given[name] = from, value
	if err := checkQuotes(name, value, from); err != nil {
		return err
	}
	err := o.flags.Set(name, value)
	if err != nil && isBoolean(o.flags.Lookup(name)) {
		err = booleanError(value)
	}
	if err != nil {
		return valueError(name, value, from, err)
	}
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

// maxFileBytes bounds what is read of a file. No configuration file is nearly as large.
const maxFileBytes = 1 << 20

// readSmallFile reads a file of at most maxFileBytes, so that a device or a large file
// given by mistake does not exhaust memory.
func readSmallFile(path string) (string, error) {
	text, err := atomicfile.Read(path, maxFileBytes)
	return string(text), err
}
