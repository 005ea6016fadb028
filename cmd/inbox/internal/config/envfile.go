package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// variableName matches the name of an environment variable.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// parseEnvFile reads the -env-file like EnvironmentFile= of systemd, which is the source of the
// service's options. The environment has precedence.
func (o *Options) parseEnvFile() error {
	if o.envFile == "" {
		return nil
	}
	text, err := readSmallFile(o.envFile)
	if err != nil {
		return o.optionError("env-file", err)
	}
	return o.parseAssignments(o.envFile, text)
}

// EnvFile returns the path of the -env-file, or "" without one.
func (o *Options) EnvFile() string { return o.envFile }

// parseAssignments parses the text of an environment file. The last assignment of a variable
// counts, as for systemd and Docker.
func (o *Options) parseAssignments(file, text string) error {
	var errs []error
	lines := strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n")
	seen := map[string]bool{}
	for i := len(lines) - 1; i >= 0; i-- {
		position := fmt.Sprintf("%s:%d", file, i+1)
		key, value, err := parseAssignment(lines[i])
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", position, err))
		case !seen[key]:
			seen[key] = true
			errs = append(errs, o.setVariable(key, value, position))
		}
	}
	slices.Reverse(errs)
	return errors.Join(errs...)
}

// parseAssignment splits a line into name and value; the name is empty for a comment or an empty
// line. systemd ignores the lines that are errors here.
func parseAssignment(line string) (key, value string, err error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' || line[0] == ';' {
		return "", "", nil
	}
	key, value, found := strings.Cut(line, "=")
	value = strings.TrimSpace(value)
	name, isExport := strings.CutPrefix(key, "export ")
	switch {
	case !found:
		return "", "", fmt.Errorf("%q has no value; write INBOX_NAME=value", shorten(key))
	case isExport:
		return "", "", fmt.Errorf("%q: write %s=value, without export", shorten(key), shorten(name))
	case strings.TrimSpace(key) != key:
		return "", "", fmt.Errorf("%q: write %s=value, without a blank before =", shorten(key), shorten(strings.TrimSpace(key)))
	case !variableName.MatchString(key):
		return "", "", fmt.Errorf("%q is no variable name; write capitals, digits and underscores, such as INBOX_DOMAIN", shorten(key))
	case strings.HasSuffix(value, `\`):
		return "", "", fmt.Errorf("%s: the value ends with a backslash; write it in one line", key)
	}
	return key, unquote(value), nil
}

// unquote removes the quotation marks around a value, as systemd does.
func unquote(value string) string {
	if last := len(value) - 1; last > 0 && value[0] == value[last] && (value[0] == '"' || value[0] == '\'') {
		return value[1:last]
	}
	return value
}
