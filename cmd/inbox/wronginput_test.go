package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wrongInput is an input with a mistake, and the parts of the line that reports it.
type wrongInput struct {
	args, variable, file, envFile string // FILE stands for the path of either file
	option, source, rule, nearest string
	warning                       bool // the input is accepted
}

const (
	argv    = "(from command line)"
	times   = "must be a whole number of seconds, or a time with a unit (ns us ms s m h d), as in 1h30m"
	sizes   = "a whole number of bytes, or a size with a unit (B kB KiB MB MiB GB GiB), as in 64MiB"
	volumes = "a whole number of GB, or a size with a unit (B kB KiB MB MiB GB GiB), as in 500MB"
	rates   = "a whole number of Mbit/s, or a rate with a unit (kbit/s Mbit/s Gbit/s), as in 2Gbit/s"
)

// wrongInputs are mistakes of operators.
var wrongInputs = []wrongInput{
	// Names of options, commands and topics.
	{args: "-domian a.example", option: "-domian", source: argv, rule: "unknown option", nearest: "-domain?"},
	{args: "--inbox_timeout=5", option: "-inbox_timeout", source: argv, rule: "unknown option", nearest: "-inbox-timeout?"},
	{args: "-timeout 5", option: "-timeout", source: argv, rule: "unknown option", nearest: "-inbox-timeout?"},
	{args: "-HTTPS=false", option: "-HTTPS", source: argv, rule: "unknown option", nearest: "-https?"},
	{args: "-port 80", option: "-port", source: argv, rule: "unknown option", nearest: "-bind?"},
	{args: "-cert a.pem", option: "-cert", source: argv, rule: "unknown option", nearest: "-server-cert?"},
	{args: "-v", option: "-v", source: argv, rule: "unknown option", nearest: "-version?"},
	{args: "-nonsense 5", option: "-nonsense", source: argv, rule: "unknown option", nearest: "inbox -h all lists the options"},
	{args: "docter", option: `command "docter"`, source: argv, rule: "unknown command", nearest: "doctor?"},
	{args: "start", option: `command "start"`, source: argv, rule: "unknown command", nearest: "inbox without a command starts the server"},
	{args: "domain", option: `command "domain"`, source: argv, rule: "unknown command", nearest: "-domain?"},
	{args: "help turm", option: `topic "turm"`, rule: "unknown help topic", nearest: "turn?"},
	{args: "help -turn-moth", option: `topic "-turn-moth"`, rule: "unknown help topic", nearest: "-turn-month?"},
	// Arguments.
	{args: "-cors false", option: "-cors", source: argv, rule: `unexpected argument "false"`, nearest: "-cors=false"},
	{args: "-cors=maybe", option: `-cors "maybe"`, source: argv, rule: "must be true or false"},
	{args: "-https=flase", option: `-https "flase"`, source: argv, rule: "must be true or false", nearest: "false?"},
	{args: "-https=off", option: `-https "off"`, source: argv, rule: "must be true or false", nearest: "false?"},
	{args: "-email", option: "-email", source: argv, rule: "requires a value", nearest: "-email ADDRESS"},
	{args: "-turn -cors", option: "-turn", source: argv, rule: "requires a value", nearest: "-turn auto"},
	{args: "-domain a.example, b.example -acme-agree", option: `"b.example"`, source: argv, rule: "unexpected argument", nearest: "quotation marks"},
	{args: "-cors doctor", option: `"doctor"`, source: argv, rule: "a command comes before the options", nearest: "inbox doctor"},
	{args: "--=5", option: `"--=5"`, source: argv, rule: "unexpected argument", nearest: "-name=VALUE"},
	{args: "-dry-run", option: "-dry-run", source: argv, rule: "applies only to the set-up", nearest: "inbox setup -dry-run"},
	{args: "setup -config x", option: "-config", source: argv, rule: "does not apply to inbox setup"},
	{args: "setpu", option: `command "setpu"`, source: argv, rule: "unknown command", nearest: "setup?"},
	{args: "heath", option: `command "heath"`, source: argv, rule: "unknown command", nearest: "health?"},
	// Times.
	{args: "-inbox-timeout 1.5", option: `-inbox-timeout "1.5"`, source: argv, rule: times},
	{args: "-inbox-timeout 1.5h", option: `-inbox-timeout "1.5h"`, source: argv, rule: times, nearest: "90m?"},
	{args: "-inbox-timeout 5min", option: `-inbox-timeout "5min"`, source: argv, rule: times, nearest: "5m?"},
	{args: "-inbox-timeout 2H", option: `-inbox-timeout "2H"`, source: argv, rule: times, nearest: "2h?"},
	{args: "-inbox-timeout 500ms", option: `-inbox-timeout "500ms"`, source: argv, rule: "must be in whole seconds: " + times[len("must be "):]},
	{args: "-inbox-timeout 1e3", option: `-inbox-timeout "1e3"`, source: argv, rule: times},
	{args: "-inbox-timeout NaN", option: `-inbox-timeout "NaN"`, source: argv, rule: times},
	{args: "-inbox-timeout -5", option: `-inbox-timeout "-5"`, source: argv, rule: times},
	{args: "-inbox-timeout=", option: `-inbox-timeout ""`, source: argv, rule: times},
	{args: "-inbox-timeout 0", option: `-inbox-timeout "0"`, source: argv, rule: "must be from 1 to 1000000000 seconds"},
	{args: "-inbox-timeout 99999999999999999999d", option: "-inbox-timeout", source: argv, rule: "must be from 1 to 1000000000 seconds"},
	{args: "-cleanup-interval 1h30", option: `-cleanup-interval "1h30"`, source: argv, rule: times},
	{args: "-poll-timeout 2m", option: `-poll-timeout "2m"`, source: argv, rule: "must be less than -inbox-timeout (60)"},
	{variable: "INBOX_INBOX_TIMEOUT=5 s", option: `-inbox-timeout "5 s"`, source: "(from INBOX_INBOX_TIMEOUT)", rule: times, nearest: "5s?"},
	// Sizes and rates.
	{args: "-max-body-size 10M", option: `-max-body-size "10M"`, source: argv, rule: sizes, nearest: "10MB?"},
	{args: "-max-body-size 64KB", option: `-max-body-size "64KB"`, source: argv, rule: sizes, nearest: "64kB?"},
	{args: "-max-body-size 0", option: `-max-body-size "0"`, source: argv, rule: "must be from 1 to 2147483647 bytes"},
	{args: "-max-body-size 1GiB1", option: `-max-body-size "1GiB1"`, source: argv, rule: sizes},
	{args: "-max-memory atuo", option: `-max-memory "atuo"`, source: argv, rule: "must be auto, " + sizes, nearest: "auto?"},
	{args: "-max-queued-bytes 100", option: `-max-queued-bytes "100"`, source: argv, rule: "at least -max-body-size (1048576)"},
	{args: "-turn-month 1.5", option: `-turn-month "1.5"`, source: argv, rule: volumes, nearest: "1500MB?"},
	{args: "-turn-month 1TB", option: `-turn-month "1TB"`, source: argv, rule: volumes},
	{args: "-turn-rate 100Mbps", option: `-turn-rate "100Mbps"`, source: argv, rule: rates, nearest: "100Mbit/s?"},
	{args: "-turn-rate 2Tbit/s", option: `-turn-rate "2Tbit/s"`, source: argv, rule: rates},
	{args: "-turn-rate 2000000", option: `-turn-rate "2000000"`, source: argv, rule: "must be from 0 to 1000000 Mbit/s"},
	{args: "-max-inboxes 100,000", option: `-max-inboxes "100,000"`, source: argv, rule: "must be a whole number from 0", nearest: "100000?"},
	{args: "-max-conns many", option: `-max-conns "many"`, source: argv, rule: "must be auto or a whole number from 0"},
	// Commands without options.
	{args: "version -cors", option: "-cors", source: argv, rule: "inbox version has no options"},
	{args: "-domain a.example -version", option: "-domain", source: argv, rule: "inbox version has no options"},
	// Words, addresses and names.
	{args: "-log-level wran", option: `-log-level "wran"`, source: argv, rule: "must be debug, info, warn or error", nearest: "warn?"},
	{args: "-log-format JSON", option: `-log-format "JSON"`, source: argv, rule: "must be text or json", nearest: "json?"},
	{args: "-acme-challenge http01", option: `-acme-challenge "http01"`, source: argv, rule: "must be http-01, tls-alpn-01 or both", nearest: "http-01?"},
	{args: "-turn of", option: `-turn "of"`, source: argv, rule: "must be auto, off, an IP address", nearest: "off?"},
	{args: "-bind 3000", option: `-bind "3000"`, source: argv, rule: "must be an address and a port", nearest: ":3000"},
	{args: "-domain https://a.example -acme-agree", option: "-domain", source: argv, rule: "is a URL; write the host name only"},
	{args: "-domain a.example", option: `-domain "a.example"`, source: argv, rule: "requires -email ADDRESS"},
	{args: "-trusted-proxies 10.0.0.0/33", option: "-trusted-proxies", source: argv, rule: "is not a network"},
	{args: "-store-ca ca.pem", option: `-store-ca "ca.pem"`, source: argv, rule: "requires -store or -store-file"},
	{args: "-store redis://u:geheim@host:port", option: "-store", source: argv, rule: "has an invalid HOST:PORT", nearest: "192.0.2.1:6379"},
	{args: "-cors-origins a.example", option: "-cors-origins", source: argv, rule: "is not an origin"},
	// The environment.
	{variable: "INBOX_CORS=maybe", option: `-cors "maybe"`, source: "(from INBOX_CORS)", rule: "must be true or false"},
	{variable: `INBOX_RATE="40"`, option: "-rate", source: "(from INBOX_RATE)", rule: "in quotation marks; remove them"},
	{variable: "INBOX_STATE=/var/lib/inbox # default", option: "-state", source: "(from INBOX_STATE)", rule: "write comments on lines of their own"},
	{args: "config", variable: "INBOX_DOMIAN=a.example", option: "INBOX_DOMIAN", rule: "unknown environment variable", nearest: "INBOX_DOMAIN?", warning: true},
	{args: "config", variable: "INBX_DOMAIN=a.example", option: "INBX_DOMAIN", rule: "unknown environment variable", nearest: "INBOX_DOMAIN?", warning: true},
	{args: "config", variable: "DOMAIN=a.example", option: "DOMAIN", rule: "unknown environment variable", nearest: "INBOX_DOMAIN?", warning: true},
	{args: "config", variable: "INBOX_PORT=3000", option: "INBOX_PORT", rule: "unknown environment variable", nearest: "INBOX_BIND?", warning: true},
	{args: "config", variable: "INBOX_EMAIL=me@example.org", option: "-email", source: "(from INBOX_EMAIL)", rule: "option has no effect", nearest: "set -domain", warning: true},
	// The files.
	{file: "inbox-timout 5", option: `"inbox-timout"`, source: "FILE:1: ", rule: "unknown option", nearest: "inbox-timeout?"},
	{file: "\n# x\nINBOX_DOMAIN=a.example", option: `"INBOX_DOMAIN=a.example"`, source: "FILE:3: ", rule: "separated by a space, without =", nearest: "domain?"},
	{file: "bind = :3000", option: "-bind", source: "FILE:1: ", rule: "without = or colon"},
	{file: "-cors", option: `"-cors"`, source: "FILE:1: ", rule: "omit the leading dash", nearest: "cors?"},
	{file: "rate 5\nrate 6", option: "rate", source: "FILE:2: ", rule: "was already set at FILE:1"},
	{file: "inbox-timeout 90 s", option: `-inbox-timeout "90 s"`, source: "(from FILE:1)", rule: times, nearest: "90s?"},
	{file: "env-file x", option: "", source: "FILE:1: ", rule: "cannot include another one"},
	{envFile: "export INBOX_RATE=5", option: "INBOX_RATE", source: "FILE:1: ", rule: "without export", nearest: "INBOX_RATE=value"},
	{envFile: "# x\nINBOX_RATE = 5", option: "INBOX_RATE", source: "FILE:2: ", rule: "without a blank before ="},
	{envFile: "INBOX-RATE=5", option: "INBOX-RATE", source: "FILE:1: ", rule: "is no variable name"},
	{envFile: "INBOX_RATE", option: "INBOX_RATE", source: "FILE:1: ", rule: "has no value", nearest: "INBOX_NAME=value"},
	{envFile: "INBOX_EMAIL=\"me@a.example\nINBOX_RATE=5", option: "INBOX_EMAIL", source: "FILE:1: ", rule: "the closing quotation mark is missing"},
	{envFile: "\ufeffINBOX_RATE=5", option: "", source: "FILE:1: ", rule: "byte order mark"},
	{envFile: "INBOX_RATE=forty", option: `-rate "forty"`, source: "(from FILE:1)", rule: "must be a whole number from 0"},
	{args: "config", envFile: "\nINBOX_DOMIAN=a.example", option: "INBOX_DOMIAN", source: "(from FILE:2)", rule: "unknown environment variable", nearest: "INBOX_DOMAIN?", warning: true},
}

// TestWrongInput checks that each mistake is reported in one line with the option, the source,
// the rule and the nearest name.
func TestWrongInput(t *testing.T) {
	if len(wrongInputs) < 60 {
		t.Errorf("got %d inputs, want at least 60", len(wrongInputs))
	}
	path := filepath.Join(t.TempDir(), "options")
	for _, in := range wrongInputs {
		args := strings.Fields(in.args)
		if text := in.file + in.envFile; text != "" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, map[bool]string{true: "-config", false: "-env-file"}[in.file != ""], path)
		}
		code, _, stderr := runOnce(t, []string{in.variable, "HOME=" + t.TempDir()}, args...)
		in.check(t, code, strings.ReplaceAll(stderr, path, "FILE"))
	}
}

func (in wrongInput) check(t *testing.T, code int, stderr string) {
	t.Helper()
	name := strings.TrimSpace(in.args + " " + in.variable + " " + in.file + in.envFile)
	wantCode := exitUsage
	if in.warning {
		wantCode = exitDone
	}
	if code != wantCode || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "inbox: ") {
		t.Errorf("%q: exit code %d, %q; want %d and one line", name, code, stderr, wantCode)
	}
	if len(stderr) > 260 {
		t.Errorf("%q: the line has %d bytes: %s", name, len(stderr), stderr)
	}
	for _, part := range []string{in.option, in.source, in.rule, in.nearest} {
		if !strings.Contains(stderr, part) {
			t.Errorf("%q: got %q, want a line with %q", name, stderr, part)
		}
	}
	if strings.Contains(stderr, "geheim") {
		t.Errorf("%q: the line contains a password: %s", name, stderr)
	}
}
