package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/help"
)

func TestInvalidOptions(t *testing.T) {
	for _, tt := range []struct {
		args, want string
	}{
		{"-inbox-timeout 0", `-inbox-timeout "0" (from command line): must be from 1`},
		{"-inbox-timeout -1", "-inbox-timeout"},
		{"-inbox-timeout 1.5", "must be a whole number"},
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
		{"-ice-servers stun:h?transport=udp", `-ice-servers (from command line): ICE server "stun:h": a STUN server has no ?transport=`},
		{"-ice-servers stun:h:99999", "the port must be a number from 1 to 65535"},
		{"-ice-servers stun:2001:db8::1", "an IPv6 address must be in brackets"},
		{"-ice-servers /no/such/file", "-ice-servers"},
		{"-metrics-hosts https://monitor.example", "must be a host name without scheme"},
		{"-metrics-hosts monitor.example:9090", "must be a host name without scheme"},
		{"-turn on", "must be auto, off, an IP address, or a host name with a dot"},
		{"-turn localhost", "a host name with a dot"},
		{"-turn 0x7f.0x1", "a host name with a dot"},
		{"-turn turn.example.org:3478", "contains a port; write the host name only, and set the port with -turn-bind"},
		{"-turn turn:turn.example.org", "-turn"},
		{"-turn https://turn.example.org", "is a URL"},
		{"-turn a.example,b.example", "-turn"},
		{"-turn-bind 3478", `-turn-bind "3478"`},
		{"-turn-rate 1000001", "must be from 0 to 1000000"},
		{"-turn-month 1000000001", "must be from 0 to 1000000000"},
		{"-store redis://h -turn turn.example.org", "requires -store-key-file"},
		{"-log-format xml", "-log-format"},
		{"-log-level loud", "-log-level"},
		{"-https=perhaps", "https"},
		{"-config /no/such/file", "-config"},
		{"-config /dev/zero", "is larger than 1048576 bytes"},
		{"-metrics-bind 9090", "must be an address and a port"},
		{"-json", "applies only to the doctor"},
		{"-renew-test", "applies only to the doctor"},
		{"-nonsense", "inbox -h all"},
		{"-domian a.example", "did you mean -domain?"},
		{"-inbox_timeout 5", "did you mean -inbox-timeout?"},
		{"-domain my_host.example -acme-agree", `-domain "my_host.example" (from command line): "my_host.example" contains an underscore`},
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
		{"", "cors=true", file + `:1: unknown option "cors=true"; write the name and the value separated by a space, without =`},
		{"", "cors: true", file + `:1: unknown option "cors:"; write the name and the value separated by a space, without colon`},
		{"", "bind = 127.0.0.1:0", file + `:1: -bind: write the name and the value separated by a space, without = or colon`},
		{"", "bind =127.0.0.1:0", file + `:1: -bind: write the name`},
		{"", "bind := 127.0.0.1:0", file + `:1: -bind: write the name`},
		{"", "inbox-timout 5", file + `:1: unknown option "inbox-timout"; did you mean inbox-timeout?`},
		{"", "INBOX_DOMAIN a.example", file + `:1: unknown option "INBOX_DOMAIN"; did you mean domain?`},
		{"", "state /var/lib/inbox # default", `-state (from ` + file + `:1): the value contains a space and #`},
		{"", `domain "a.example"`, `-domain (from ` + file + `:1): the value is in quotation marks`},
		{`INBOX_STORE="redis://:geheim@localhost"`, "", `-store (from INBOX_STORE): the value is in quotation marks`},
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

// TestCertificateErrorNamesSources checks that an error of the certificate manager names
// the options that are given.
func TestCertificateErrorNamesSources(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"-acme-agree", "-domain (from INBOX_DOMAIN), -http-bind (from command line), -acme-agree (from command line): cannot be configured like this: no public CA"},
		{"-email nobody", "-domain (from INBOX_DOMAIN), -http-bind (from command line), -email (from command line): cannot be configured like this: invalid e-mail"},
	} {
		args := append([]string{"-bind", "127.0.0.1:0", "-http-bind=", "-state", t.TempDir()}, strings.Fields(tt.args)...)
		code, _, stderr := runOnce(t, []string{"INBOX_DOMAIN=a.local"}, args...)
		if code != exitUsage || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit code %d, %q; want 2 and %q", tt.args, code, stderr, tt.want)
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

func TestHelp(t *testing.T) {
	for args, topic := range map[string]string{
		"-h": config.ShortHelp, "--help": config.ShortHelp, "-rate x -h": config.ShortHelp, "-h all": "all", "-help exit codes": "exit-codes",
		"help": config.HelpTopics, "help -h": config.HelpTopics, "help turn": "turn", "help -turn": "-turn", "help INBOX_TURN": "INBOX_TURN",
		"doctor -h": "doctor", "config --help": "config", "doctor -h units": "units",
	} {
		want, err := help.Text(topic)
		if err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := runOnce(t, []string{"INBOX_RATE=x"}, strings.Fields(args)...)
		if code != exitDone || stderr != "" || stdout != want {
			t.Errorf("%s: exit code %d, output %q and errors %q, want 0, %q and none", args, code, stdout, stderr, want)
		}
	}
}

// TestAllErrorsAreReported checks that each error has its line.
func TestAllErrorsAreReported(t *testing.T) {
	for _, row := range []struct {
		args string
		want []string
	}{
		{"-domian a -rate x -cors false -inbox-timeout 5min extra", []string{"-domian", "-rate", "-cors", "-inbox-timeout", `"extra"`, "(from INBOX_BURST)"}},
		{"config -bind 1 -poll-timeout 70 -metrics-bind 2 -store-ca x -turn of -burst 5", []string{"-bind", "-poll-timeout", "-metrics-bind", "-store-ca", "-turn"}},
	} {
		code, stdout, stderr := runOnce(t, []string{"INBOX_BURST=x"}, strings.Fields(row.args)...)
		if code != exitUsage || stdout != "" || strings.Count(stderr, "\n") != len(row.want) || strings.Count(stderr, "inbox: ") != len(row.want) {
			t.Errorf("%s: exit code %d, %q and %q; want 2 and %d lines", row.args, code, stdout, stderr, len(row.want))
		}
		for _, part := range row.want {
			if !strings.Contains(stderr, part) {
				t.Errorf("%s: got %q, want a line with %s", row.args, stderr, part)
			}
		}
	}
}

func TestStartRefusesStateInPublicDirectory(t *testing.T) {
	site := t.TempDir()
	state := filepath.Join(site, "state")
	code, _, stderr := runOnce(t, nil, "-bind", "127.0.0.1:0", "-public", site, "-state", state)
	if code != exitUsage || !strings.Contains(stderr, "-public") || !strings.Contains(stderr, "contains the state directory") {
		t.Errorf("got exit code %d, want 2 and the reason:\n%s", code, stderr)
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("got a state directory in the directory of the pages, want none")
	}
}
