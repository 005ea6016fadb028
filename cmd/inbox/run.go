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

// process is what a running program is given by whoever started it.
type process struct {
	args           []string
	environ        []string
	stdout, stderr io.Writer
	timeouts       timeouts
	forceStop      <-chan struct{} // closed when the end must not wait for posts; nil: never

	done <-chan struct{} // closed when the program is to end; for starts that wait
}

// run is the program; it returns the exit code. It ends with ctx.
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

// addUserHint adds to a file that may not be opened who may not: as a service and
// in a container that is seldom the user who wrote it.
func addUserHint(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) && errors.Is(file, fs.ErrPermission) {
		return fmt.Errorf("%w; the server runs as user %d, who needs the right to it", err, os.Geteuid())
	}
	return err
}

// getenv is the variable of that name, or empty.
func (p process) getenv(name string) string { return lookupEnv(p.environ, name) }

// journalWriter is stderr, as the log is to write to it.
func (p process) journalWriter() io.Writer { return sdnotify.JournalWriter(p.stderr, p.getenv) }

// errorPrefix begins the line that says why the program cannot start.
func (p process) errorPrefix() string {
	return sdnotify.PriorityPrefix(p.journalWriter(), slog.LevelError)
}
