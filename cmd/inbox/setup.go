package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/doctor"
	"inbox/cmd/inbox/internal/envfile"
	"inbox/cmd/inbox/internal/operator"
	"inbox/cmd/inbox/internal/server"
	"inbox/cmd/inbox/internal/setup"
	"inbox/tlsmgr"
)

// setUp configures and starts the service of the package.
func (p process) setUp(ctx context.Context, options *config.Options) int {
	given, err := options.Given()
	if err != nil {
		return p.fail(exitUsage, err)
	}
	systemctlOut := p.stdout
	if checked, ok := p.stdout.(*checkedWriter); ok {
		systemctlOut = checked.Writer // the terminal itself, not a pipe
	}
	c := setup.Config{
		Stdin: p.stdin, Stdout: p.stdout, DryRun: options.DryRun(), IsRoot: os.Geteuid() == 0, Load: loadService,
		Systemctl: func(ctx context.Context, args ...string) error {
			cmd := exec.CommandContext(ctx, "systemctl", args...)
			cmd.Stdout, cmd.Stderr = systemctlOut, p.stderr
			return cmd.Run()
		},
		IsMetrics: func(ctx context.Context, address string) bool {
			_, err := operator.Fetch(ctx, address)
			return err == nil
		},
	}
	for _, o := range given {
		c.Given = append(c.Given, envfile.Assignment{Name: o.Variable, Value: o.Value})
	}
	err = setup.Run(ctx, c)
	switch {
	case errors.Is(err, setup.ErrUsage):
		return p.fail(exitUsage, err)
	case err != nil:
		return p.fail(exitFailure, err)
	}
	return exitDone
}

// loadService returns the service with the options of an environment file. The environment of this
// process is not that of the service.
func loadService(text string) (setup.Service, error) {
	// The service runs in this directory, so a relative path of an option names the same file.
	if err := os.Chdir("/"); err != nil {
		return setup.Service{}, err
	}
	getenv := func(name string) string { return map[string]string{"STATE_DIRECTORY": setup.StateDir}[name] }
	options, err := config.ParseService(setup.EnvFile, text)
	if err != nil {
		return setup.Service{}, err
	}
	cfg, err := config.Resolve(options, hostFacts(getenv))
	if err == nil && len(cfg.Domains) == 0 {
		err = errors.New("-domain is empty: a certificate needs a host name")
	}
	if err == nil {
		err = server.CheckCertificates(cfg)
	}
	if err != nil {
		return setup.Service{}, err
	}
	examination := server.DoctorConfig(cfg)
	return setup.Service{
		URL:    "https://" + cfg.Domains[0],
		Doctor: func(ctx context.Context, stdout io.Writer) bool { return doctor.Run(ctx, examination, stdout) },
		Missing: func() []string {
			return slices.DeleteFunc(slices.Clone(cfg.Domains), func(name string) bool { return isIssued(examination.States(), name) })
		},
	}, nil
}

// isIssued reports whether a certificate of the CA is stored for a host name or address.
func isIssued(states []tlsmgr.NameState, name string) bool {
	return slices.ContainsFunc(states, func(s tlsmgr.NameState) bool { return strings.EqualFold(s.Name, name) && s.Source == "acme" })
}
