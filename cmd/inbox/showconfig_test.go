package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// settingLines returns the lines of inbox config with single blanks, by option.
func settingLines(t *testing.T, stdout string) map[string]string {
	t.Helper()
	lines := map[string]string{}
	for line := range strings.Lines(stdout) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] != "#" {
			lines[fields[0]] = strings.Join(fields[1:], " ")
		}
	}
	return lines
}

// TestConfigShowsSources checks the value and the source of options from each place.
func TestConfigShowsSources(t *testing.T) {
	dir := t.TempDir()
	file, envFile := filepath.Join(dir, "inbox.conf"), filepath.Join(dir, "inbox.env")
	writeFile(t, file, "# limits\n\nrate 5\nburst 50\nmax-body-size 2MiB\nmetrics-bind 127.0.0.1:9\n")
	writeFile(t, envFile, "INBOX_RATE=7\nINBOX_CONN_RATE=\"8\"\nINBOX_CONN_RATE=9\nINBOX_LOG_LEVEL=warn\nOTHER=1\n")
	environ := []string{"INBOX_LOG_LEVEL=debug", "INBOX_MAX_INBOXES=", "HOME=" + dir, "INBOX_STORE=redis://user:geheim@h", "INBOX_TURN_RATE=1Gbit/s"}
	code, stdout, stderr := runOnce(t, environ, "config", "-config", file, "-env-file", envFile, "-inbox-timeout", "1h30m", "-cors")
	if code != exitDone || strings.Contains(stdout, "geheim") {
		t.Fatalf("exit code %d, %q and\n%s", code, stderr, stdout)
	}
	lines := settingLines(t, stdout)
	for option, want := range map[string]string{
		"inbox-timeout":   "90m command line",
		"cors":            "true command line",
		"log-level":       "debug INBOX_LOG_LEVEL",
		"rate":            "7 " + envFile + ":1",
		"conn-rate":       "9 " + envFile + ":3",
		"burst":           "50 " + file + ":4",
		"max-body-size":   "2MiB " + file + ":5",
		"metrics-bind":    "127.0.0.1:9 " + file + ":6",
		"max-inboxes":     "100000 default",
		"store":           "redis://user:***@h INBOX_STORE",
		"turn":            "off default (auto: -store; -turn NAME makes one server the relay of all)",
		"turn-rate":       "1Gbit/s INBOX_TURN_RATE",
		"turn-month":      "1000GB default",
		"poll-timeout":    "25s default",
		"cors-origins":    `"" default`,
		"http-bind":       `"" default (without -domain)`,
		"state":           filepath.Join(dir, ".local/state/inbox") + " default (of the user)",
		"max-header-size": "16KiB default",
	} {
		if lines[option] != want && (option != "state" || os.PathSeparator == '/') {
			t.Errorf("%s: got %q, want %q", option, lines[option], want)
		}
	}
	if !strings.Contains(stderr, "warning: -turn-rate (from INBOX_TURN_RATE): option has no effect") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("got %q, want a warning of -turn-rate", stderr)
	}
}

// TestConfigDerivesValues checks the values that follow from other options.
func TestConfigDerivesValues(t *testing.T) {
	code, stdout, stderr := runOnce(t, []string{"STATE_DIRECTORY=/var/lib/inbox"}, "config", "-domain", "a.example", "-acme-agree", "-inbox-timeout", "1", "-max-memory", "3GiB")
	if code != exitDone || stderr != "" {
		t.Fatalf("exit code %d, %q", code, stderr)
	}
	lines := settingLines(t, stdout)
	for option, want := range map[string]string{
		"bind": ":443 default (with -domain)", "http-bind": ":80 default", "poll-timeout": "500ms default (half of -inbox-timeout)",
		"max-memory": "3GiB command line", "max-queued-bytes": "256MiB default (auto)", "state": "/var/lib/inbox default ($STATE_DIRECTORY)",
		"turn": "on default (auto)", "public": `"" default (built-in pages)`,
	} {
		if lines[option] != want {
			t.Errorf("%s: got %q, want %q", option, lines[option], want)
		}
	}
}

// TestConfigRefusesWhatTheServerRefuses checks the exit code, also for errors that only the
// certificate manager finds.
func TestConfigRefusesWhatTheServerRefuses(t *testing.T) {
	for _, row := range []struct{ args, want string }{
		{"-rate x", "-rate"},
		{"-domain a.example -email x", "invalid e-mail address"},
		{"-domain a.example -acme-agree -acme autocert -acme-profile tlsserver", "autocert does not support certificate profiles"},
		{"-domain a.example -acme-agree -acme-eab-kid k", "requires a key ID and a key file"},
		{"-domain a.example -acme-agree -http-bind= -acme-challenge http-01", "open at least one"},
		{"-json", "applies only to the doctor"},
	} {
		args := append([]string{"config", "-state", t.TempDir()}, strings.Fields(row.args)...)
		code, stdout, stderr := runOnce(t, nil, args...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, row.want) {
			t.Errorf("%s: exit code %d, %q and %q; want 2 and %q", row.args, code, stdout, stderr, row.want)
		}
	}
}

// TestConfigListsEveryOption checks that only the options of other commands are absent.
func TestConfigListsEveryOption(t *testing.T) {
	_, stdout, _ := runOnce(t, nil, "config", "-state", t.TempDir())
	_, help, _ := runOnce(t, nil, "-h", "all")
	lines := settingLines(t, stdout)
	for line := range strings.Lines(help) {
		name, found := strings.CutPrefix(line, "  -")
		if !found {
			continue
		}
		name = strings.Fields(name)[0]
		if lines[name] == "" && !slices.Contains([]string{"version", "json", "renew-test", "dry-run"}, name) {
			t.Errorf("inbox config does not list -%s", name)
		}
	}
}
