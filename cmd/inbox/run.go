package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"inbox/cmd/inbox/internal/access"
	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/doctor"
	"inbox/cmd/inbox/internal/help"
	"inbox/cmd/inbox/internal/host"
	"inbox/cmd/inbox/internal/memory"
	"inbox/cmd/inbox/internal/sdnotify"
	"inbox/cmd/inbox/internal/server"
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
	stdin          io.Reader
	stdout, stderr io.Writer
	columns        int // of the terminal that stderr is; 0: none
	terminals      terminals
	timeouts       server.Timeouts
	forceStop      <-chan struct{} // closed when shutdown must not wait for posts; nil: never
}

// terminals reports which files are terminals.
type terminals struct{ stdout, stderr bool }

// run runs the program until ctx is done, and returns the exit code. Output that is lost, as on a
// full disk, is a failure, unless the reader of a pipe has ended.
func run(ctx context.Context, p process) int {
	out := &checkedWriter{Writer: p.stdout}
	p.stdout = out
	code := p.dispatch(ctx)
	if code == exitDone && out.err != nil && !errors.Is(out.err, syscall.EPIPE) {
		return p.fail(exitFailure, fmt.Errorf("the output is incomplete: %w", out.err))
	}
	return code
}

// checkedWriter keeps the first error of a writer.
type checkedWriter struct {
	io.Writer
	err error
}

// Write implements [io.Writer].
func (w *checkedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if w.err == nil {
		w.err = err
	}
	return n, err
}

// dispatch runs the command of the arguments.
func (p process) dispatch(ctx context.Context) int {
	options, err := config.Parse(p.args, p.environ)
	if err != nil && slices.Equal(p.args[:min(1, len(p.args))], []string{"health"}) {
		return p.fail(exitFailure, err) // Docker reserves exitUsage
	}
	if err != nil {
		return p.fail(exitUsage, err)
	}
	switch options.Command {
	case config.Health:
		return p.health(ctx, options)
	case config.Help:
		return p.printHelp(options.Topic)
	case config.Invite:
		return p.invite(ctx, options)
	case config.Setup:
		return p.setUp(ctx, options)
	case config.Version:
		fmt.Fprintln(p.stdout, version())
		return exitDone
	}
	cfg, err := config.Resolve(options, hostFacts(p.getenv))
	if err != nil {
		return p.fail(exitUsage, err)
	}
	switch options.Command {
	case config.Doctor:
		if !doctor.Run(ctx, server.DoctorConfig(cfg), p.stdout) {
			return exitFailure
		}
		return exitDone
	case config.ShowConfig:
		return p.showConfig(options, cfg)
	case config.ShowStatus:
		return p.showStatus(ctx, cfg)
	}
	return p.serve(ctx, cfg)
}

func (p process) printHelp(topic string) int {
	text, err := help.Text(topic)
	if err != nil {
		return p.fail(exitUsage, err)
	}
	io.WriteString(p.stdout, text)
	return exitDone
}

// serve runs the server.
func (p process) serve(ctx context.Context, cfg *config.Config) int {
	memory.SetLimit(cfg.MaxMemoryBytes)
	err := server.Run(ctx, cfg, server.Process{
		Version: buildVersion(), Getenv: p.getenv, Stderr: p.stderr, Columns: p.columns, ForceStop: p.forceStop, Timeouts: p.timeouts,
		Terminal: p.terminals.stderr, Colour: p.terminals.stderr && host.AllowsColour(p.getenv),
	})
	switch {
	case errors.Is(err, tlsmgr.ErrUsage), errors.Is(err, access.ErrNoState):
		return p.fail(exitUsage, addUserHint(err))
	case err != nil:
		return p.fail(exitFailure, addUserHint(err))
	}
	return exitDone
}

// fail prints the lines of an error, with their priority if the journal reads them, and returns
// the code.
func (p process) fail(code int, err error) int {
	prefix := sdnotify.PriorityPrefix(sdnotify.JournalWriter(p.stderr, p.getenv), slog.LevelError)
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(p.stderr, "%sinbox: %s\n", prefix, line)
	}
	return code
}

// hostFacts returns what the configuration needs to know of this machine.
func hostFacts(getenv func(name string) string) config.Facts {
	return config.Facts{MemoryBytes: memory.Available(), OpenFiles: host.MaxOpenFiles(), Getenv: getenv}
}

// addUserHint adds the process's user to a permission error for a file, and the command that
// gives it access. In a service or container, that is seldom the user who created the file.
func addUserHint(err error) error {
	var file *fs.PathError
	if !errors.As(err, &file) || !errors.Is(file, fs.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w; the server runs as user %d, which needs access: chown %[2]d %s (a file mounted into a container: on the host)",
		err, os.Geteuid(), closedPath(file.Path))
}

// closedPath returns the file, or the outermost directory on the way to it that this process
// cannot pass.
func closedPath(file string) string {
	path, err := filepath.Abs(file)
	if err != nil {
		return file
	}
	for {
		dir := filepath.Dir(path)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrPermission) || dir == path {
			return path
		}
		path = dir
	}
}

// getenv returns the value of an environment variable, or "".
func (p process) getenv(name string) string { return host.Getenv(p.environ, name) }
