package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inbox/cmd/inbox/internal/envfile"
	"inbox/internal/filelock"
)

// machine is a fake of the machine that is set up.
type machine struct {
	t        *testing.T
	config   Config
	out      bytes.Buffer
	healthy  bool      // the doctor finds no failure
	running  bool      // a server has its metrics
	issuedAt time.Time // of the certificate; zero: never
	commands []string
}

// newMachine returns a healthy machine with the package, and options if they are not empty.
func newMachine(t *testing.T, options, input string) *machine {
	t.Helper()
	m := &machine{t: t, healthy: true, issuedAt: time.Now()}
	m.config = Config{
		Root: t.TempDir(), Stdin: strings.NewReader(input), Stdout: &m.out, IsRoot: true, Load: m.load,
		Systemctl: func(_ context.Context, args ...string) error {
			m.commands = append(m.commands, strings.Join(args, " "))
			return nil
		},
		IsMetrics: func(context.Context, string) bool { return m.running },
	}
	m.write("/usr/lib/systemd/system/inbox.service", "")
	m.write("/run/systemd/system/mark", "")
	if options != "" {
		m.write(EnvFile, options)
	}
	return m
}

func (m *machine) load(text string) (Service, error) {
	if strings.Contains(text, "INBOX_DOMAIN=wrong") {
		return Service{}, errors.New("-domain is wrong")
	}
	return Service{
		URL:    "https://a.example",
		Doctor: func(_ context.Context, out io.Writer) bool { fmt.Fprintln(out, "findings"); return m.healthy },
		Missing: func() []string {
			if m.issuedAt.IsZero() || time.Now().Before(m.issuedAt) {
				return []string{"a.example"}
			}
			return nil
		},
	}, nil
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	path := filepath.Join(m.config.Root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o640)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(name string) string {
	text, _ := os.ReadFile(filepath.Join(m.config.Root, name))
	return string(text)
}

func (m *machine) backups() []string {
	found, _ := filepath.Glob(filepath.Join(m.config.Root, EnvFile+".*.bak"))
	return found
}

// given returns the options of a command line.
func given() []envfile.Assignment {
	return []envfile.Assignment{
		{Name: "INBOX_DOMAIN", Value: "a.example"}, {Name: "INBOX_EMAIL", Value: "me@a.example"}, {Name: "INBOX_METRICS_BIND", Value: "127.0.0.1:1"},
	}
}

// TestRunAsks checks the questions, the file, its mode and the backup, and that a repetition
// offers the values in force and writes nothing.
func TestRunAsks(t *testing.T) {
	options := "# Mine.\n#INBOX_DOMAIN=example.org\nINBOX_RATE=7\nINBOX_METRICS_BIND=127.0.0.1:1\n"
	m := newMachine(t, options, "\n  a.example \nme@a.example\n")
	if err := Run(t.Context(), m.config); err != nil {
		t.Fatalf("%v\n%s", err, m.out.String())
	}
	want := "# Mine.\nINBOX_DOMAIN=a.example\nINBOX_RATE=7\nINBOX_METRICS_BIND=127.0.0.1:1\nINBOX_EMAIL=me@a.example\n"
	if got := m.read(EnvFile); got != want {
		t.Errorf("got the file\n%s\nwant\n%s", got, want)
	}
	backups := m.backups()
	if len(backups) != 1 || m.read(strings.TrimPrefix(backups[0], m.config.Root)) != options {
		t.Errorf("got the backups %q, want one of the previous file", backups)
	}
	if info, err := os.Stat(filepath.Join(m.config.Root, EnvFile)); err != nil || info.Mode().Perm()&0o077 != 0o040 {
		t.Errorf("got %v (%v), want the mode of the previous file", info.Mode(), err)
	}
	if want := []string{"daemon-reload", "enable --quiet inbox.service", "restart inbox.service"}; !slices.Equal(m.commands, want) {
		t.Errorf("got the commands %q, want %q", m.commands, want)
	}

	m.config.Stdin = strings.NewReader("\n")
	m.out.Reset()
	if err := Run(t.Context(), m.config); err != nil || m.read(EnvFile) != want || len(m.backups()) != 1 {
		t.Errorf("repetition: got %v, %d backups and\n%s", err, len(m.backups()), m.read(EnvFile))
	}
	for _, text := range []string{"[a.example]: ", "[me@a.example]: ", "is up to date", "https://a.example is ready"} {
		if !strings.Contains(m.out.String(), text) {
			t.Errorf("repetition: got\n%s\nwant %q", m.out.String(), text)
		}
	}
}

// TestRunWithOptions checks that given options are not asked for, and the address of the metrics.
func TestRunWithOptions(t *testing.T) {
	m := newMachine(t, "", "")
	m.config.Given = given()[:2]
	if err := Run(t.Context(), m.config); err != nil {
		t.Fatal(err)
	}
	if got := m.read(EnvFile); !strings.HasPrefix(got, "INBOX_DOMAIN=a.example\nINBOX_EMAIL=me@a.example\n") ||
		!strings.Contains(got, "INBOX_METRICS_BIND=127.0.0.1:9091\n") && !strings.Contains(m.out.String(), "is in use") {
		t.Errorf("got\n%s", got)
	}
	m.config.Given = []envfile.Assignment{{Name: "INBOX_DOMAIN", Value: "b.example"}, {Name: "INBOX_ACME_AGREE", Value: "true"}, {Name: "INBOX_METRICS_BIND", Value: ":1"}}
	if err := Run(t.Context(), m.config); err != nil || !strings.Contains(m.read(EnvFile), "INBOX_DOMAIN=b.example\n") {
		t.Errorf("-acme-agree: got %v and\n%s", err, m.read(EnvFile))
	}
}

// TestRunChangesNothing checks the reasons to stop before the file is written.
func TestRunChangesNothing(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(m *machine)
		want    error
		text    string
	}{
		"no package":        {func(m *machine) { os.RemoveAll(filepath.Join(m.config.Root, "usr")) }, ErrUsage, "apt install ./inbox_*_amd64.deb"},
		"no systemd":        {func(m *machine) { os.RemoveAll(filepath.Join(m.config.Root, "run")) }, ErrUsage, "systemd does not run"},
		"no root":           {func(m *machine) { m.config.IsRoot = false }, ErrUsage, "sudo inbox setup"},
		"no answer":         {func(m *machine) { m.config.Given = nil }, ErrUsage, "use the option -domain"},
		"wrong option":      {func(m *machine) { m.config.Given[0].Value = "wrong" }, ErrUsage, "-domain is wrong"},
		"control character": {func(m *machine) { m.config.Given[0].Value = "a\nINBOX_CORS=true" }, ErrUsage, "INBOX_DOMAIN contains a control character"},
		"failure":           {func(m *machine) { m.healthy = false }, ErrFindings, "not ready"},
		"dry run":           {func(m *machine) { m.config.DryRun = true; m.config.IsRoot = false }, nil, ""},
		"masked service":    {func(m *machine) { m.mask() }, ErrUsage, "systemctl unmask inbox.service"},
		"locked":            {func(m *machine) { m.lock() }, ErrUsage, "another inbox setup is running"},
	} {
		m := newMachine(t, "INBOX_RATE=7\n", "")
		m.config.Given = given()
		test.prepare(m)
		err := Run(t.Context(), m.config)
		if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: got %v, want %v with %q", name, err, test.want, test.text)
		}
		if m.read(EnvFile) != "INBOX_RATE=7\n" || len(m.backups()) > 0 || len(m.commands) > 0 {
			t.Errorf("%s: got commands %q and the file\n%s", name, m.commands, m.read(EnvFile))
		}
	}
}

// mask masks the service.
func (m *machine) mask() {
	dir := filepath.Join(m.config.Root, "etc/systemd/system")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Symlink(os.DevNull, filepath.Join(dir, "inbox.service"))); err != nil {
		m.t.Fatal(err)
	}
}

// lock holds the lock of a set-up until the end of the test.
func (m *machine) lock() {
	f, err := filelock.TryLock(filepath.Join(m.config.Root, lockFile))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { f.Close() })
}

// TestRunReleasesLock checks that set-ups can follow one another, and that a dry run needs no lock.
func TestRunReleasesLock(t *testing.T) {
	m := newMachine(t, "", "")
	m.config.Given = given()
	for range 2 {
		if err := Run(t.Context(), m.config); err != nil {
			t.Fatal(err)
		}
	}
	m.lock()
	m.config.DryRun = true
	if err := Run(t.Context(), m.config); err != nil {
		t.Errorf("dry run: got %v", err)
	}
}

// TestRunKeepsSymbolicLink checks that a link stays one and its target is written, with the group
// of the target.
func TestRunKeepsSymbolicLink(t *testing.T) {
	m := newMachine(t, "", "")
	m.config.Given = given()
	m.write("/srv/inbox.env", "INBOX_RATE=7\n")
	target, link := filepath.Join(m.config.Root, "srv/inbox.env"), filepath.Join(m.config.Root, EnvFile)
	if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(target, link)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(target, 0, 12); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(target)
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), m.config); err != nil {
		t.Fatal(err)
	}
	if got, err := os.Readlink(link); err != nil || got != target || !strings.HasPrefix(m.read("/srv/inbox.env"), "INBOX_RATE=7\nINBOX_DOMAIN=a.example\n") {
		t.Errorf("got the link %q (%v) to\n%s", got, err, m.read("/srv/inbox.env"))
	}
	for _, file := range append(m.backups(), target) {
		after, err := os.Stat(file)
		if err != nil || after.Mode() != before.Mode() || ownerOf(after) != ownerOf(before) {
			t.Errorf("%s: got mode %v and owner %q (%v), want %v and %q", file, after.Mode(), ownerOf(after), err, before.Mode(), ownerOf(before))
		}
	}
	if err := errors.Join(os.Remove(target), os.Mkdir(target, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), m.config); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("link to a directory: got %v", err)
	}
	os.Remove(target)
	if err := Run(t.Context(), m.config); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "missing file") {
		t.Errorf("link to a missing file: got %v", err)
	}
}

// TestRunInterrupted checks that a signal ends the questions and the doctor, and that nothing is
// changed.
func TestRunInterrupted(t *testing.T) {
	m := newMachine(t, "INBOX_RATE=7\n", "")
	in, out := io.Pipe()
	defer out.Close()
	m.config.Stdin = in
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, m.config); !errors.Is(err, errInterrupted) {
		t.Errorf("question: got %v, want %v", err, errInterrupted)
	}
	m.config.Given = given()
	if err := Run(ctx, m.config); !errors.Is(err, errInterrupted) {
		t.Errorf("doctor: got %v, want %v", err, errInterrupted)
	}
	if m.read(EnvFile) != "INBOX_RATE=7\n" || len(m.commands) > 0 {
		t.Errorf("got the commands %q and the file\n%s", m.commands, m.read(EnvFile))
	}
}

// TestRunKeepsMetricsOfRunningServer checks that the running service does not count as another
// program at the address of the metrics.
func TestRunKeepsMetricsOfRunningServer(t *testing.T) {
	if l, err := net.Listen("tcp", metricsBind); err == nil {
		defer l.Close()
	}
	for _, running := range []bool{true, false} {
		m := newMachine(t, "", "")
		m.config.Given, m.running = given()[:2], running
		if err := Run(t.Context(), m.config); err != nil {
			t.Fatal(err)
		}
		for text, got := range map[string]bool{
			"the option": strings.Contains(m.read(EnvFile), "INBOX_METRICS_BIND="+metricsBind), "inbox status": strings.Contains(m.out.String(), "inbox status\n"),
			"no message": !strings.Contains(m.out.String(), "is in use"),
		} {
			if got != running {
				t.Errorf("running %v, %s: got %v\n%s", running, text, got, m.out.String())
			}
		}
	}
}

func TestDryRunDescribes(t *testing.T) {
	m := newMachine(t, "INBOX_RATE=7\n", "")
	m.config.Given, m.config.DryRun, m.issuedAt = given(), true, time.Time{}
	if err := Run(t.Context(), m.config); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"findings\n", "  INBOX_DOMAIN=a.example\n", "Would run: systemctl restart inbox.service\n", "Would wait up to three minutes for the certificate of a.example.\n"} {
		if !strings.Contains(m.out.String(), want) {
			t.Errorf("got\n%s\nwant %q", m.out.String(), want)
		}
	}
	if strings.Contains(m.out.String(), "INBOX_RATE") {
		t.Errorf("got\n%s\nwant only the changes", m.out.String())
	}
}

// TestRunWaitsForCertificate checks the wait of up to three minutes, and what follows it.
func TestRunWaitsForCertificate(t *testing.T) {
	for name, test := range map[string]struct {
		issuedAfter, ends time.Duration // issuedAfter 0: never
		want              error
	}{
		"after a minute": {time.Minute, time.Minute, nil},
		"never":          {0, 3 * time.Minute, ErrFindings},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine(t, "", "")
			m.config.Given, m.issuedAt = given(), time.Time{}
			if test.issuedAfter > 0 {
				m.issuedAt = time.Now().Add(test.issuedAfter)
			}
			began := time.Now()
			if err := Run(t.Context(), m.config); !errors.Is(err, test.want) {
				t.Errorf("%s: got %v, want %v", name, err, test.want)
			}
			if took := time.Since(began); took < test.ends || took > test.ends+time.Minute {
				t.Errorf("%s: got an end after %v, want %v", name, took, test.ends)
			}
			if reports := strings.Count(m.out.String(), "findings\n"); (reports == 2) != (test.want != nil) {
				t.Errorf("%s: got %d reports of the doctor:\n%s", name, reports, m.out.String())
			}
		})
	}
}

// TestRunReportsFailedStart checks that the error of systemctl ends the set-up.
func TestRunReportsFailedStart(t *testing.T) {
	m := newMachine(t, "", "")
	m.config.Given = given()
	m.config.Systemctl = func(_ context.Context, args ...string) error {
		m.commands = append(m.commands, args[0])
		return errors.New("exit status 1")
	}
	if err := Run(t.Context(), m.config); err == nil || !strings.Contains(err.Error(), "journalctl -u inbox") {
		t.Errorf("got %v, want the command that shows the reason", err)
	}
	if want := []string{"daemon-reload", "status"}; !slices.Equal(m.commands, want) || strings.Count(m.out.String(), "findings\n") != 2 {
		t.Errorf("got the commands %q, want %q, and\n%s", m.commands, want, m.out.String())
	}
}
