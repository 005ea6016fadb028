package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/healthcheck"
	"inbox/cmd/inbox/internal/sdnotify"
	"inbox/cmd/inbox/internal/server"
	"inbox/cmd/inbox/internal/setup"
)

// health asks the server of these options whether it answers. Without options, it is the server
// that runs on this machine. The exit code is never exitUsage, which Docker reserves.
func (p process) health(ctx context.Context, options *config.Options) int {
	ctx, cancel := context.WithTimeout(ctx, healthcheck.Timeout)
	defer cancel()
	holdsSockets := options.EnvFile() != ""
	if len(p.args) == 1 {
		found, err := p.installedServer("inbox health -bind :3000")
		if err != nil {
			return p.fail(exitFailure, err)
		}
		p, holdsSockets = found.process, found.holdsSockets
	}
	target, err := p.healthTarget(ctx, holdsSockets)
	if err != nil {
		return p.fail(exitFailure, err)
	}
	answer, err := target.Check(ctx)
	if err != nil {
		return p.fail(exitFailure, err)
	}
	fmt.Fprintln(p.stdout, answer)
	return exitDone
}

// installedServer is the server that a command without options means.
type installedServer struct {
	process           // with the options of the server
	holdsSockets bool // systemd holds sockets of the server
	running      bool
}

// installedServer returns a copy of p with the options of the only server that runs on this machine
// and that this user can examine. If none does, the options are those of the installed service, or
// else stay as they are. The example is a command for one of several servers.
func (p process) installedServer(example string) (installedServer, error) {
	running, err := p.runningServer(example)
	switch {
	case err != nil:
		return installedServer{}, err
	case running != nil:
		return installedServer{*running, running.getenv("LISTEN_FDS") != "", true}, nil
	case isReadable(setup.EnvFile):
		p.args = append(slices.Clone(p.args), "-env-file", setup.EnvFile)
		return installedServer{process: p, holdsSockets: true}, nil
	}
	return installedServer{process: p}, nil
}

func isReadable(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// runningServer returns a copy of p with the options of the only server that runs on this machine
// and that this user can examine. It is nil if none does.
func (p process) runningServer(example string) (*process, error) {
	found := healthcheck.Servers(func(args []string) bool {
		options, err := config.Parse(args, nil)
		return err == nil && options.Command == config.Serve
	})
	switch {
	case len(found) == 0:
		return nil, nil
	case len(found) > 1:
		var pids []string
		for _, s := range found {
			pids = append(pids, fmt.Sprint(s.PID))
		}
		return nil, fmt.Errorf("several servers run (processes %s): give the options of one, as in %s", strings.Join(pids, ", "), example)
	}
	if dir, err := found[0].Dir(); err == nil {
		_ = os.Chdir(dir) // options can name files there; a missing one is reported
	}
	p.args = found[0].Args
	if found[0].Environ != nil {
		p.environ = found[0].Environ
	}
	return &p, nil
}

// healthTarget returns the server of the options of p. If systemd holds its sockets, their
// address replaces -bind, unless that is on the command line.
func (p process) healthTarget(ctx context.Context, holdsSockets bool) (healthcheck.Target, error) {
	options, err := config.Parse(p.args, p.environ)
	if err != nil {
		return healthcheck.Target{}, err
	}
	cfg, err := config.Resolve(options, hostFacts(p.getenv))
	if err != nil {
		return healthcheck.Target{}, err
	}
	target := server.HealthTarget(cfg)
	if !holdsSockets || cfg.Bind.IsFromCommandLine() {
		return target, nil
	}
	name := sdnotify.HTTP
	if cfg.HTTPS {
		name = sdnotify.HTTPS
	}
	if bind := healthcheck.SystemdBind(ctx, name); bind != "" {
		target.Bind = bind
	}
	return target, nil
}
