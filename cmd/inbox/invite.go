package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"inbox/cmd/inbox/internal/access"
	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/setup"
	"inbox/inbox/invite"
)

// qrColumns is the width of a QR code of a link, if standard output is not a terminal.
const qrColumns = 80

// invite makes, lists and revokes invitations of the server whose options are given, or else of
// the one that runs on this machine.
func (p process) invite(ctx context.Context, options *config.Options) int {
	cfg, err := p.invitingServer(options)
	if err != nil {
		return p.fail(exitUsage, err)
	}
	columns := p.columns
	if columns == 0 {
		columns = qrColumns
	}
	err = access.Command(ctx, cfg, access.Output{Writer: p.stdout, Columns: columns})
	switch {
	case errors.Is(err, invite.ErrLabel):
		return p.fail(exitUsage, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist):
		return p.fail(exitFailure, fmt.Errorf("%w\nthe invitations are in the state directory of the server (%s): run inbox invite as root, or as the user of the server", err, cfg.StateDir))
	case err != nil:
		return p.fail(exitFailure, err)
	}
	return exitDone
}

// invitingServer returns the configuration of the server with the options of inbox invite.
func (p process) invitingServer(options *config.Options) (*config.Config, error) {
	if options.NamesServer() {
		return config.Resolve(options, hostFacts(p.getenv))
	}
	found, err := p.installedServer("inbox invite -label anna -state /var/lib/inbox")
	if err != nil {
		return nil, err
	}
	args, getenv := found.args, found.getenv
	if found.running {
		args = slices.Concat(p.args, found.args)
	} else {
		getenv = found.serviceGetenv()
	}
	if options, err = config.Parse(args, found.environ); err != nil {
		return nil, err
	}
	return config.Resolve(options, hostFacts(getenv))
}

// serviceGetenv returns the environment of the installed service, if the options are those of its
// file: systemd sets its state directory.
func (s installedServer) serviceGetenv() func(string) string {
	return func(name string) string {
		if name == "STATE_DIRECTORY" && s.holdsSockets {
			return setup.StateDir
		}
		return s.getenv(name)
	}
}
