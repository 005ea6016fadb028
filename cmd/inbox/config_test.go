package main

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
	c := newConfig()
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
	c, err := parse([]string{"--inbox-capacity=1"}, environ)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name        string
		got, want   any
		from, value string
	}{
		{"command line over all", c.inboxCapacity, int64(1), "inbox-capacity", "command line"},
		{"environment over file", c.inboxTimeout, int64(22), "inbox-timeout", "INBOX_INBOX_TIMEOUT"},
		{"file over default", c.maxInboxes, int64(30), "max-inboxes", file + ":6"},
		{"boolean option without a value in a file", c.cors, true, "cors", file + ":5"},
		{"default", c.bind, "0.0.0.0:3000", "bind", ""},
		{"an empty variable is absent", c.public, "public", "public", ""},
	} {
		if tt.got != tt.want || c.from[tt.from] != tt.value {
			t.Errorf("%s: got %v from %q, want %v from %q", tt.name, tt.got, c.from[tt.from], tt.want, tt.value)
		}
	}
	if got := fmt.Sprint(c.unknownVars); got != "[INBOX_PORT INBOX_VERSION INBOX_inbox_timeout]" {
		t.Errorf("unknown variables %s, want INBOX_PORT, INBOX_VERSION and INBOX_inbox_timeout", got)
	}
}

func TestEveryOptionFromEnvironment(t *testing.T) {
	given := map[string]string{"bind": ":1", "log-format": "json", "log-level": "warn",
		"cors-origins": "https://a.example", "ice-servers": "stun:a.example", "config": "x"}
	newConfig().flags.VisitAll(func(f *flag.Flag) {
		if !newConfig().settable(f.Name) {
			return
		}
		value := given[f.Name]
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
			value = map[string]string{"true": "false", "false": "true"}[f.DefValue]
		} else if value == "" {
			value = "7"
		}
		c := newConfig()
		variable := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if err := c.parseEnviron([]string{variable + "=" + value}); err != nil {
			t.Errorf("%s: %v", variable, err)
		}
		if got := c.flags.Lookup(f.Name).Value.String(); got != value {
			t.Errorf("%s=%s: -%s is %q", variable, value, f.Name, got)
		}
	})
}

func TestInvalidOptions(t *testing.T) {
	for _, tt := range []struct {
		args, want string
	}{
		{"-inbox-timeout 0", `-inbox-timeout "0" (from command line): must be from 1`},
		{"-inbox-timeout -1", "-inbox-timeout"},
		{"-inbox-timeout 1.5", "must be a whole number"},
		{"-inbox-timeout 60s", "must be a whole number"},
		{"-inbox-timeout 9999999999999", "must be from 1"},
		{"-inbox-capacity -1", "-inbox-capacity"},
		{"-cleanup-interval 0", "-cleanup-interval"},
		{"-poll-timeout -1", "-poll-timeout"},
		{"-poll-timeout 60", "must be less than -inbox-timeout (60)"},
		{"-inbox-timeout 5 -poll-timeout 10", `-poll-timeout "10"`},
		{"-max-body-size 0", "-max-body-size"},
		{"-max-header-size 0", "-max-header-size"},
		{"-max-inboxes -1", "-max-inboxes"},
		{"-max-inboxes-per-ip -1", "-max-inboxes-per-ip"},
		{"-max-queued-bytes -1", "-max-queued-bytes"},
		{"-max-queued-bytes-per-ip -1", "-max-queued-bytes-per-ip"},
		{"-max-queued-bytes 100", "must be 0, or at least -max-body-size (1048576)"},
		{"-max-queued-bytes-per-ip 1048575", `-max-queued-bytes-per-ip "1048575"`},
		{"-max-queued-bytes 600 -max-body-size 601", "-max-queued-bytes"},
		{"-bind 3000", "-bind"},
		{"-bind localhost", "-bind"},
		{"-bind 127.0.0.1:", "-bind"},
		{"-bind :70000", "-bind"},
		{"-bind :nosuchservice", "-bind"},
		{"-cors -cors-origins https://a.example", "conflicts with -cors"},
		{"-cors-origins a.example", "is not an origin"},
		{"-cors-origins https://a.example/", "is not an origin"},
		{"-cors-origins https://a.example,", "is not an origin"},
		{"-ice-servers http://a.example", "-ice-servers"},
		{"-ice-servers stun:", "-ice-servers"},
		{"-ice-servers stun:h?transport=udp", `-ice-servers: ICE server "stun:h": a STUN server has no ?transport=`},
		{"-ice-servers stun:h:99999", "the port must be a number from 1 to 65535"},
		{"-ice-servers stun:2001:db8::1", "an IPv6 address must be in brackets"},
		{"-ice-servers /no/such/file", "-ice-servers"},
		{"-metrics-hosts https://monitor.example", "must be a host name without scheme"},
		{"-metrics-hosts monitor.example:9090", "must be a host name without scheme"},
		{"-log-format xml", "-log-format"},
		{"-log-level loud", "-log-level"},
		{"-https=perhaps", "https"},
		{"-config /no/such/file", "-config"},
		{"-config /dev/zero", "is larger than 1048576 bytes"},
		{"-metrics-bind 9090", "must be an address and a port"},
		{"-json", "applies only to the doctor"},
		{"-renew-test", "applies only to the doctor"},
		{"-nonsense", "inbox -h"},
		{"-cors false", `unexpected argument "false"`},
		{"version now", `unexpected argument "now"`},
	} {
		code, stdout, stderr := runOnce(t, nil, strings.Fields(tt.args)...)
		if code != exitUsage || stdout != "" {
			t.Errorf("%s: exit code %d and output %q, want 2 and none", tt.args, code, stdout)
		}
		if !strings.Contains(stderr, tt.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: got %q, want one line with %q", tt.args, stderr, tt.want)
		}
	}
}

func TestOptionErrorNamesSource(t *testing.T) {
	file := filepath.Join(t.TempDir(), "inbox.conf")
	for _, tt := range []struct{ variable, text, want string }{
		{"INBOX_CORS=maybe", "", `-cors "maybe" (from INBOX_CORS): must be true or false`},
		{"INBOX_INBOX_TIMEOUT=0", "", `-inbox-timeout "0" (from INBOX_INBOX_TIMEOUT)`},
		{"", "# first\ninbox-capacity many", `-inbox-capacity "many" (from ` + file + `:2): must be a whole number`},
		{"", "inbox-capacity -4", `(from ` + file + `:1)`},
		{"", "\n\nnonsense 1", file + `:3: unknown option "nonsense"`},
		{"", "cors=true", file + `:1: unknown option "cors=true"; write the name and the value separated by a space`},
		{"", "-cors true", file + `:1: unknown option "-cors"; omit the leading dash`},
		{"", "config other", file + `:1: a configuration file cannot include another one`},
		{"", "version", file + `:1: unknown option "version"`},
		{"", "cors\ncors", file + `:2: cors was already set at ` + file + `:1`},
	} {
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := runOnce(t, []string{tt.variable}, "-config", file)
		if code != exitUsage || !strings.Contains(stderr, tt.want) {
			t.Errorf("%q %q: exit code %d, %q; want 2 and %q", tt.variable, tt.text, code, stderr, tt.want)
		}
	}
}

func TestICECredentialsAreNotRepeated(t *testing.T) {
	for _, value := range []string{`[{"urls":"turn:a.example","username":"u","credential":"geheim"}]`, "turn:guest:geheim@turn.example", "TURN:h?credential=geheim"} {
		code, _, stderr := runOnce(t, nil, "-ice-servers", value)
		if code != exitUsage || !strings.Contains(stderr, "-ice-servers") || strings.Contains(stderr, "geheim") {
			t.Errorf("%s: exit code %d, %q; want 2 without the credential", value, code, stderr)
		}
	}
}

func TestPollTimeoutFollowsInboxTimeout(t *testing.T) {
	for _, tt := range []struct {
		args string
		want time.Duration
	}{
		{"", 25 * time.Second},
		{"-inbox-timeout 10", 5 * time.Second},
		{"-inbox-timeout 1", 500 * time.Millisecond},
		{"-inbox-timeout 600", 25 * time.Second},
		{"-poll-timeout 59", 59 * time.Second},
		{"-poll-timeout 0", 0},
		{"-long-polling=false", 0},
		{"-long-polling=false -poll-timeout 10", 0},
	} {
		c, err := parse(strings.Fields(tt.args), nil)
		if err != nil {
			t.Errorf("%q: %v", tt.args, err)
		} else if c.pollWait != tt.want {
			t.Errorf("%q: polls are held %v, want %v", tt.args, c.pollWait, tt.want)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, arg := range []string{"-h", "--help"} {
		code, stdout, stderr := runOnce(t, nil, arg)
		if code != exitDone || stderr != "" {
			t.Errorf("%s: exit code %d and errors %q, want 0 and none", arg, code, stderr)
		}
		checkHelp(t, stdout)
	}
}

// checkHelp checks that the help text lists the groups in order, and each option on its
// own line with its default.
func checkHelp(t *testing.T, help string) {
	t.Helper()
	rest := help
	for _, g := range newConfig().optionGroups() {
		_, after, found := strings.Cut(rest, "\n"+g.title+"\n")
		if !found {
			t.Errorf("group %q is missing or out of order", g.title)
			continue
		}
		rest = after
		g.flags.VisitAll(func(f *flag.Flag) {
			at := strings.Index(rest, "\n  -"+f.Name)
			if strings.HasPrefix(rest, "  -"+f.Name) {
				at = 0
			}
			if at < 0 {
				t.Errorf("-%s has no line in group %q", f.Name, g.title)
				return
			}
			entry, _, _ := strings.Cut(rest[at+1:], "\n  -")
			shown := f.DefValue
			if shown == "" {
				shown = "empty"
			}
			if !strings.Contains(strings.Join(strings.Fields(entry), " "), "(default "+shown+")") {
				t.Errorf("-%s does not show its default %q:\n%s", f.Name, shown, entry)
			}
		})
	}
	for line := range strings.Lines(help) {
		if len(line) > 81 {
			t.Errorf("line of %d bytes: %s", len(line), line)
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
		c := newConfig()
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
