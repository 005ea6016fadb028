package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"inbox/cmd/inbox/internal/doctor"
	"inbox/cmd/inbox/internal/host"
	"inbox/cmd/inbox/internal/sdnotify"
	"inbox/tlsmgr"
)

// Exit codes.
const (
	exitDone    = 0
	exitFailure = 1
	exitUsage   = 2
)

// process is the environment in which the program runs.
type process struct {
	args           []string
	environ        []string
	stdout, stderr io.Writer
	timeouts       timeouts
	forceStop      <-chan struct{} // closed when shutdown must not wait for posts; nil: never

	done <-chan struct{} // closed when the program must stop, so that a waiting start returns
}

// run runs the program until ctx is done, and returns the exit code.
func run(ctx context.Context, p process) int {
	cfg, err := parse(p.args, p.environ)
	switch {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(p.stdout, usage())
		return exitDone
	case err != nil:
		fmt.Fprintf(p.stderr, "%sinbox: %v\n", p.errorPrefix(), err)
		return exitUsage
	case cfg.version:
		fmt.Fprintln(p.stdout, version())
		return exitDone
	}
	if cfg.doctor {
		if !doctor.Run(ctx, doctorConfig(cfg, p), p.stdout) {
			return exitFailure
		}
		return exitDone
	}
	p.done = ctx.Done()
	cfg.resolveAuto(host.AvailableMemory(), host.MaxOpenFiles())
	host.LimitMemory(cfg.maxMemory)
	err = serve(ctx, cfg, p)
	switch {
	case errors.Is(err, tlsmgr.ErrUsage):
		fmt.Fprintf(p.stderr, "%sinbox: %v\n", p.errorPrefix(), addUserHint(err))
		return exitUsage
	case err != nil:
		fmt.Fprintf(p.stderr, "%sinbox: %v\n", p.errorPrefix(), addUserHint(err))
		return exitFailure
	}
	return exitDone
}

// addUserHint adds the process's user to a permission error for a file. In a service or
// container, that is seldom the user who created the file.
func addUserHint(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) && errors.Is(file, fs.ErrPermission) {
		return fmt.Errorf("%w; the server runs as user %d, which needs access to the file", err, os.Geteuid())
	}
	return err
}

// getenv returns the value of an environment variable, or "".
func (p process) getenv(name string) string { return lookupEnv(p.environ, name) }

// journalWriter returns stderr, with journal priorities if it is connected to the journal.
func (p process) journalWriter() io.Writer { return sdnotify.JournalWriter(p.stderr, p.getenv) }

// errorPrefix returns the journal priority that precedes an error message, or "".
func (p process) errorPrefix() string {
	return sdnotify.PriorityPrefix(p.journalWriter(), slog.LevelError)
}
