package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// seedOptions are the options of the original program. Their names and defaults are
// stable.
var seedOptions = map[string]string{
	"bind": "0.0.0.0:3000", "cleanup-interval": "1", "cors": "false", "https": "true",
	"inbox-capacity": "100", "inbox-timeout": "60", "max-body-size": "1048576",
	"max-header-size": "16384", "public": "public", "server-cert": "server.crt", "server-key": "server.key",
}

func TestSeedOptionsKeepTheirDefaults(t *testing.T) {
	c := defaultOptions()
	for name, want := range seedOptions {
		f := c.flags.Lookup(name)
		if f == nil {
			t.Errorf("-%s is missing", name)
		} else if f.DefValue != want {
			t.Errorf("-%s has default %q, want %q", name, f.DefValue, want)
		}
	}
}

func TestOptionPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "inbox.conf")
	text := "# mailboxes\n\ninbox-capacity 3\n  inbox-timeout\t33\ncors\nmax-inboxes 30\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"INBOX_INBOX_CAPACITY=2", "INBOX_INBOX_TIMEOUT=22", "INBOX_PUBLIC=", "INBOX_PORT=tcp://10.0.0.1:80",
		"INBOX_VERSION=1.2.3", "INBOX_inbox_timeout=23", "INBOX_CONFIG=" + file, "PATH=/bin"}
	c, err := Parse([]string{"--inbox-capacity=1"}, environ)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name        string
		got, want   any
		from, value string
	}{
		{"command line over all", c.inboxCapacity, int64(1), "inbox-capacity", "command line"},
		{"environment over file", c.inboxTimeout, 22 * time.Second, "inbox-timeout", "INBOX_INBOX_TIMEOUT"},
		{"file over default", c.maxInboxes, int64(30), "max-inboxes", file + ":6"},
		{"boolean option without a value in a file", c.cors, true, "cors", file + ":5"},
		{"default", c.bind, "0.0.0.0:3000", "bind", ""},
		{"an empty variable is absent", c.public, "public", "public", ""},
	} {
		if tt.got != tt.want || c.from[tt.from] != tt.value {
			t.Errorf("%s: got %v from %q, want %v from %q", tt.name, tt.got, c.from[tt.from], tt.want, tt.value)
		}
	}
	if got := fmt.Sprint(c.unknownVars); got != "[{INBOX_inbox_timeout INBOX_inbox_timeout INBOX_INBOX_TIMEOUT}]" {
		t.Errorf("unknown variables %s, want INBOX_inbox_timeout: the others come from container platforms", got)
	}
}

// TestUnitsFromEverySource gives values with units to the server, the doctor and inbox config,
// from each source.
func TestUnitsFromEverySource(t *testing.T) {
	dir := t.TempDir()
	file, envFile := filepath.Join(dir, "conf"), filepath.Join(dir, "env")
	writeFile(t, file, "inbox-timeout 1h30m\nmax-body-size 2MiB\nturn-month 500MB\nturn-rate 2Gbit/s\nmax-memory 3GB\n")
	variables := []string{"INBOX_INBOX_TIMEOUT=1h30m", "INBOX_MAX_BODY_SIZE=2MiB", "INBOX_TURN_MONTH=500MB", "INBOX_TURN_RATE=2Gbit/s", "INBOX_MAX_MEMORY=3GB"}
	writeFile(t, envFile, strings.Join(variables, "\n"))
	arguments := strings.Fields("-inbox-timeout 1h30m -max-body-size 2MiB -turn-month 500MB -turn-rate 2Gbit/s -max-memory 3GB")
	for _, command := range []string{"-cors", "doctor", "config"} {
		for _, source := range []struct{ args, environ []string }{
			{arguments, nil}, {nil, variables}, {[]string{"-env-file", envFile}, nil}, {[]string{"-config", file}, nil},
		} {
			o, err := Parse(append([]string{command}, source.args...), source.environ)
			if err != nil {
				t.Errorf("%s %q %q: %v", command, source.args, source.environ, err)
				continue
			}
			c, err := Resolve(o, Facts{Getenv: func(string) string { return "" }})
			if err != nil {
				t.Fatal(err)
			}
			if c.Mailboxes.Timeout != 90*time.Minute || c.MaxBodyBytes != 2<<20 || c.TURN.MonthBytes != 5e8 || c.TURN.RateBits != 2e9 || c.MaxMemoryBytes != 3e9 {
				t.Errorf("%s %q %q: got %+v", command, source.args, source.environ, c)
			}
		}
	}
}

func TestEveryOptionFromEnvironment(t *testing.T) {
	given := map[string]string{"bind": ":1", "access": "invited", "log-format": "json", "log-level": "warn",
		"acme": "autocert", "acme-challenge": "http-01", "cors-origins": "https://a.example", "ice-servers": "stun:a.example", "config": "x"}
	defaultOptions().flags.VisitAll(func(f *flag.Flag) {
		if !defaultOptions().settable(f.Name) {
			return
		}
		value := given[f.Name]
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
			value = map[string]string{"true": "false", "false": "true"}[f.DefValue]
		} else if value == "" {
			value = "7"
		}
		c := defaultOptions()
		variable := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if err := c.parseEnviron([]string{variable + "=" + value}); err != nil {
			t.Errorf("%s: %v", variable, err)
		}
		if got := c.flags.Lookup(f.Name).Value.String(); got != value {
			t.Errorf("%s=%s: -%s is %q", variable, value, f.Name, got)
		}
	})
}

func TestPollTimeoutFollowsInboxTimeout(t *testing.T) {
	for _, tt := range []struct {
		args            string
		want, heartbeat time.Duration
	}{
		{"", 25 * time.Second, 25 * time.Second},
		{"-inbox-timeout 10", 5 * time.Second, 25 * time.Second},
		{"-inbox-timeout 1", 500 * time.Millisecond, 25 * time.Second},
		{"-inbox-timeout 600", 25 * time.Second, 25 * time.Second},
		{"-poll-timeout 59", 59 * time.Second, 25 * time.Second},
		{"-poll-timeout 8", 8 * time.Second, 8 * time.Second},
		{"-poll-timeout 1", time.Second, 5 * time.Second},
		{"-poll-timeout 0", 0, 5 * time.Second},
		{"-long-polling=false", 0, 0},
		{"-long-polling=false -poll-timeout 10", 0, 0},
	} {
		c := mustResolve(t, Facts{}, strings.Fields(tt.args)...)
		if c.PollTimeout != tt.want || c.Heartbeat != tt.heartbeat {
			t.Errorf("%q: polls wait %v, heartbeats come every %v, want %v and %v", tt.args, c.PollTimeout, c.Heartbeat, tt.want, tt.heartbeat)
		}
	}
}

// FuzzParseText checks that no configuration file makes the parser panic, and that
// accepted files contain only known options.
func FuzzParseText(f *testing.F) {
	for _, seed := range []string{"", "# x", "cors", "bind :3000\r\ncors true\r\n", "bind", "inbox-timeout 5 6", "\ufeffcors", "cors\ncors",
		"version", "config x", "\x00", " \t", "max-body-size 99999999999999999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := defaultOptions()
		if err := c.parseText("file", text); err != nil {
			if !strings.Contains(err.Error(), "file:") {
				t.Errorf("error %q has no position", err)
			}
			return
		}
		for name, from := range c.from {
			if !c.settable(name) || !strings.HasPrefix(from, "file:") {
				t.Errorf("accepted %q from %q", name, from)
			}
		}
	})
}
