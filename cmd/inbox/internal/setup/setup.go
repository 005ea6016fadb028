// Package setup configures and starts the installed service, for inbox setup: it asks for the host
// name, lets the doctor check the machine, writes the environment file, starts the service and
// waits for its certificates. It changes nothing before the doctor finds no failure. The command
// passes what depends on the options.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"inbox/cmd/inbox/internal/envfile"
	"inbox/internal/atomicfile"
	"inbox/internal/filelock"
	"inbox/internal/privatefile"
)

// EnvFile has the options of the service, and StateDir its state.
const (
	EnvFile  = "/etc/inbox/inbox.env"
	StateDir = "/var/lib/inbox"
)

// lockFile is locked while a set-up runs that can change the options.
const lockFile = "/run/inbox-setup.lock"

const (
	// certificateTimeout bounds the wait for the certificates.
	certificateTimeout = 3 * time.Minute
	// certificateInterval is the time between two looks at the state directory.
	certificateInterval = time.Second
	// metricsBind is the address of the metrics, for inbox status and the operator's page.
	metricsBind = "127.0.0.1:9091"
	// maxEnvFileBytes bounds what is read of the environment file.
	maxEnvFileBytes = 1 << 20
)

// ErrUsage is wrapped by errors that nothing was attempted after: wrong options, or a machine
// without the package.
var ErrUsage = errors.New("setup cannot begin")

// ErrFindings is returned after the doctor has printed failures, or a certificate is missing.
var ErrFindings = errors.New("the server is not ready")

// Config configures [Run].
type Config struct {
	// Root is the directory that stands for / in tests; empty otherwise.
	Root   string
	Stdin  io.Reader
	Stdout io.Writer
	// Given has the options of the command line, which are written to the environment file.
	Given []envfile.Assignment
	// DryRun prints what would be changed, and changes nothing.
	DryRun bool
	// IsRoot reports whether the user can write the file and start the service.
	IsRoot bool
	// Load returns the service with the options of an environment file. Its error says what is
	// wrong with them.
	Load func(text string) (Service, error)
	// Systemctl runs systemctl. Its output is shown to the operator.
	Systemctl func(ctx context.Context, args ...string) error
	// IsMetrics reports whether an inbox server has its metrics at the address.
	IsMetrics func(ctx context.Context, address string) bool
}

// Service is the service with certain options.
type Service struct {
	// Doctor prints a report and reports whether there is no failure.
	Doctor func(ctx context.Context, stdout io.Writer) (ok bool)
	// Missing returns the host names without a certificate of the CA.
	Missing func() []string
	// URL is the address of the site.
	URL string
}

// Run sets the service up. It can be repeated: it then asks with the values in force, and restarts
// the service.
func Run(ctx context.Context, c Config) error {
	if err := c.checkInstalled(); err != nil {
		return err
	}
	if !c.DryRun {
		lock, err := c.lock()
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	before, err := c.readEnvFile()
	if err != nil {
		return err
	}
	assignments, err := c.complete(ctx, before)
	if err != nil {
		return err
	}
	after := envfile.Assign(before, assignments)
	service, err := c.Load(after)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	c.printf("Checking this machine.\n\n")
	if ok := service.Doctor(ctx, c.Stdout); ctx.Err() != nil {
		return errInterrupted
	} else if !ok {
		c.printf("\nNothing was changed. Fix the failures, then run inbox setup again.\n")
		return ErrFindings
	}
	if c.DryRun {
		c.describe(before, after, service)
		return nil
	}
	return c.apply(ctx, before, after, service)
}

// apply writes the options, starts the service and waits for its certificates.
func (c Config) apply(ctx context.Context, before, after string, service Service) error {
	if err := c.write(before, after); err != nil {
		return err
	}
	if err := c.start(ctx); err != nil {
		c.printf("\nThe service did not start. Its last messages, and the doctor's findings:\n\n")
		_ = c.Systemctl(ctx, "status", "--no-pager", "--lines=10", "inbox.service") // fails for a failed service
		c.printf("\n")
		service.Doctor(ctx, c.Stdout)
		return err
	}
	if err := c.awaitCertificates(ctx, service); err != nil {
		return err
	}
	c.describeReady(after, service)
	return nil
}

// lock keeps a second set-up from overwriting the options of this one.
func (c Config) lock() (*os.File, error) {
	lock, err := filelock.TryLock(c.path(lockFile))
	if errors.Is(err, filelock.ErrLocked) {
		return nil, fmt.Errorf("%w: another inbox setup is running; finish it first", ErrUsage)
	}
	return lock, err
}

func (c Config) printf(format string, args ...any) { fmt.Fprintf(c.Stdout, format, args...) }

func (c Config) path(name string) string { return filepath.Join(c.Root, name) }

// checkInstalled reports what is missing for a service.
func (c Config) checkInstalled() error {
	switch {
	case !c.exists("/usr/lib/systemd/system/inbox.service") && !c.exists("/lib/systemd/system/inbox.service") &&
		!c.exists("/usr/local/lib/systemd/system/inbox.service") && !c.exists("/etc/systemd/system/inbox.service"):
		return fmt.Errorf("%w: the service is not installed: install the package first, as root: "+
			"apt install ./inbox_*_amd64.deb (Debian, Ubuntu) or dnf install ./inbox-*.x86_64.rpm (Fedora, RHEL); scripts/package builds both; "+
			"without it, start the server with inbox -domain example.org -email me@example.org", ErrUsage)
	case c.isMasked():
		return fmt.Errorf("%w: inbox.service is masked: run systemctl unmask inbox.service first", ErrUsage)
	case c.DryRun:
		return nil
	case !c.exists("/run/systemd/system"):
		return fmt.Errorf("%w: systemd does not run on this machine; start the server with inbox -domain example.org -email me@example.org", ErrUsage)
	case !c.IsRoot:
		return fmt.Errorf("%w: it changes %s and starts the service: run it as root, as in sudo inbox setup", ErrUsage, EnvFile)
	}
	return nil
}

// isMasked reports whether systemd refuses to start the service.
func (c Config) isMasked() bool {
	for _, dir := range []string{"/etc/systemd/system", "/run/systemd/system"} {
		if target, err := os.Readlink(c.path(dir + "/inbox.service")); err == nil && target == os.DevNull {
			return true
		}
	}
	return false
}

func (c Config) exists(name string) bool {
	_, err := os.Stat(c.path(name))
	return err == nil
}

func (c Config) readEnvFile() (string, error) {
	file := c.path(EnvFile)
	info, err := os.Stat(file)
	_, linkErr := os.Lstat(file)
	switch {
	case err == nil && !info.Mode().IsRegular(): // reading a FIFO can wait forever
		return "", fmt.Errorf("%w: %s is not a file: remove it", ErrUsage, EnvFile)
	case errors.Is(err, fs.ErrNotExist) && linkErr == nil:
		return "", fmt.Errorf("%w: %s is a symbolic link to a missing file: create the file, or remove the link", ErrUsage, EnvFile)
	}
	text, err := atomicfile.Read(file, maxEnvFileBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the options of the service: %w", err)
	}
	return string(text), nil
}

// complete returns the given options with those that setup adds.
func (c Config) complete(ctx context.Context, text string) ([]envfile.Assignment, error) {
	all := c.Given
	given := map[string]bool{}
	for _, a := range all {
		if strings.ContainsFunc(a.Value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, fmt.Errorf("%w: the value of %s contains a control character", ErrUsage, a.Name)
		}
		given[a.Name] = true
	}
	in := newPrompt(c.Stdin, c.Stdout)
	for _, question := range questions {
		if given[question.variable] || question.variable == "INBOX_EMAIL" && given["INBOX_ACME_AGREE"] {
			continue
		}
		answer, err := in.ask(ctx, question, envfile.Value(text, question.variable))
		if err != nil {
			return nil, err
		}
		all = append(all, envfile.Assignment{Name: question.variable, Value: answer})
	}
	if !given["INBOX_METRICS_BIND"] && envfile.Value(text, "INBOX_METRICS_BIND") == "" && c.metricsAvailable(ctx) {
		all = append(all, envfile.Assignment{Name: "INBOX_METRICS_BIND", Value: metricsBind})
	}
	return all, nil
}

// metricsAvailable reports whether the server can bind the address of the metrics, or does so
// already. Another program must not keep the server from starting.
func (c Config) metricsAvailable(ctx context.Context) bool {
	l, err := net.Listen("tcp", metricsBind)
	if err != nil && c.IsMetrics(ctx, metricsBind) {
		return true
	}
	if err != nil {
		c.printf("The metrics stay off, because %s is in use.\n", metricsBind)
		return false
	}
	l.Close()
	return true
}

// describe prints what Run would do.
func (c Config) describe(before, after string, service Service) {
	if changed := envfile.Changed(before, after); len(changed) == 0 {
		c.printf("\n%s would stay as it is.\n", EnvFile)
	} else {
		c.printf("\nWould write to %s, and keep a backup:\n\n  %s\n\n", EnvFile, strings.Join(changed, "\n  "))
	}
	for _, command := range startCommands {
		c.printf("Would run: systemctl %s\n", strings.Join(command, " "))
	}
	if missing := service.Missing(); len(missing) > 0 {
		c.printf("Would wait up to three minutes for the certificate of %s.\n", strings.Join(missing, ", "))
	}
}

// write replaces the environment file, and keeps the previous one beside it. A symbolic link
// stays one.
func (c Config) write(before, after string) error {
	if before == after {
		c.printf("\n%s is up to date.\n", EnvFile)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(c.path(EnvFile)), 0o755); err != nil {
		return err
	}
	file, err := filepath.EvalSymlinks(c.path(EnvFile))
	if errors.Is(err, fs.ErrNotExist) {
		return c.writeFirst(after)
	} else if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	backup := EnvFile + time.Now().UTC().Format(".20060102-150405.000.bak")
	if err := replace(c.path(backup), before, info); err != nil {
		return fmt.Errorf("back up the options of the service: %w", err)
	}
	c.printf("\nThe previous options are in %s.\n", backup)
	if err := replace(file, after, info); err != nil {
		return fmt.Errorf("write the options of the service: %w", err)
	}
	c.printf("The options are in %s.\n", EnvFile)
	return nil
}

// writeFirst writes an environment file that does not exist.
func (c Config) writeFirst(text string) error {
	file := c.path(EnvFile)
	if err := errors.Join(atomicfile.Write(file, []byte(text)), os.Chmod(file, 0o644)); err != nil {
		return fmt.Errorf("write the options of the service: %w", err)
	}
	c.printf("The options are in %s.\n", EnvFile)
	return nil
}

// replace writes a file with the mode and the owner of another.
func replace(path, text string, like fs.FileInfo) error {
	if err := atomicfile.Write(path, []byte(text)); err != nil {
		return err
	}
	f, err := privatefile.Open(path, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(privatefile.Chown(f, like), f.Chmod(like.Mode().Perm()))
}

// startCommands start the service now and at boot. A running one is restarted.
var startCommands = [][]string{{"daemon-reload"}, {"enable", "--quiet", "inbox.service"}, {"restart", "inbox.service"}}

func (c Config) start(ctx context.Context) error {
	c.printf("Starting the service.\n")
	for _, command := range startCommands {
		if err := c.Systemctl(ctx, command...); err != nil {
			return fmt.Errorf("systemctl %s: %w; journalctl -u inbox shows why", strings.Join(command, " "), err)
		}
	}
	return nil
}

// awaitCertificates waits until no certificate is missing. The service continues to try after
// the timeout.
func (c Config) awaitCertificates(ctx context.Context, service Service) error {
	wait, cancel := context.WithTimeout(ctx, certificateTimeout)
	defer cancel()
	ticker := time.NewTicker(certificateInterval)
	defer ticker.Stop()
	missing := service.Missing()
	if len(missing) > 0 {
		c.printf("Waiting up to three minutes for the certificate of %s.\n", strings.Join(missing, ", "))
	}
	for ; len(missing) > 0; missing = service.Missing() {
		select {
		case <-ticker.C:
		case <-wait.Done():
			return c.reportMissing(ctx, service, missing)
		}
	}
	return nil
}

// describeReady prints how to use the service.
func (c Config) describeReady(options string, service Service) {
	c.printf("\n%s is ready. The certificate is renewed automatically.\n\n", service.URL)
	if envfile.Value(options, "INBOX_METRICS_BIND") != "" {
		c.printf("  status   inbox status\n")
	}
	c.printf("  log      journalctl -u inbox\n  options  %s, then: systemctl restart inbox\n", EnvFile)
}

func (c Config) reportMissing(ctx context.Context, service Service, missing []string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: interrupted", ErrFindings)
	}
	c.printf("\nThere is no certificate for %s yet. The service runs and tries again. The doctor's findings:\n\n", strings.Join(missing, ", "))
	service.Doctor(ctx, c.Stdout)
	c.printf("\njournalctl -u inbox shows the errors of the CA.\n")
	return ErrFindings
}
