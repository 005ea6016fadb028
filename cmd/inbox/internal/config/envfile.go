package config

import (
	"errors"
	"fmt"
	"slices"

	"inbox/cmd/inbox/internal/envfile"
)

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

// maxLineErrors bounds the errors of one file, which can be a file of another kind.
const maxLineErrors = 20

// parseAssignments parses the text of an environment file. The last assignment of a variable
// counts, as for systemd and Docker.
func (o *Options) parseAssignments(file, text string) error {
	var errs []error
	lines := envfile.Lines(text)
	seen := map[string]bool{}
	for _, line := range slices.Backward(lines) {
		position := fmt.Sprintf("%s:%d", file, line.Number)
		switch {
		case line.Err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", position, line.Err))
		case !seen[line.Name]:
			seen[line.Name] = true
			if err := o.setVariable(line.Name, line.Value, position); err != nil {
				errs = append(errs, err)
			}
		}
	}
	slices.Reverse(errs)
	if more := len(errs) - maxLineErrors; more > 0 {
		errs = append(errs[:maxLineErrors], fmt.Errorf("%s: %d more errors", file, more))
	}
	return errors.Join(errs...)
}
