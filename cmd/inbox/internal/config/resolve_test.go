package config

import (
	"bytes"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"inbox/cmd/inbox/internal/host"
)

// resolve parses and resolves options.
func resolve(facts Facts, args ...string) (*Config, error) {
	o, err := Parse(args, nil)
	if err != nil {
		return nil, err
	}
	if facts.Getenv == nil {
		facts.Getenv = func(string) string { return "" }
	}
	return Resolve(o, facts)
}

func mustResolve(t *testing.T, facts Facts, args ...string) *Config {
	t.Helper()
	c, err := resolve(facts, args...)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return c
}

func TestDomainSetsDefaultPorts(t *testing.T) {
	for _, row := range []struct {
		args       []string
		bind, http string
	}{
		{nil, "0.0.0.0:3000", ""},
		{[]string{"-domain", "a.example, b.example"}, ":443", ":80"},
		{[]string{"-domain", "a.example", "-bind", ":8443"}, ":8443", ":80"},
		{[]string{"-domain", "a.example", "-http-bind", ""}, ":443", ""},
		{[]string{"-domain", "a.example", "-http-bind", "127.0.0.1:8080"}, ":443", "127.0.0.1:8080"},
	} {
		c := mustResolve(t, Facts{}, append(row.args, "-acme-agree")...)
		if c.Bind.Value != row.bind || c.HTTPBind.Value != row.http {
			t.Errorf("%q: got %q and %q, want %q and %q", row.args, c.Bind.Value, c.HTTPBind.Value, row.bind, row.http)
		}
	}
}

func TestInvalidDomainOptions(t *testing.T) {
	for _, row := range []struct{ args, says string }{
		{"-domain a.example", "-email"},
		{"-domain a.example -acme-agree -https=false", "-https=false"},
		{"-domain a.example -acme-agree -acme-challenge dns-01", "http-01"},
		{"-domain a.example -acme-agree -acme lego", "certmagic or autocert"},
		{"-domain a.example -acme-agree -http-bind 80", "such as 0.0.0.0:3000"},
		{"-http-bind :80", "-domain"},
	} {
		_, err := resolve(Facts{}, strings.Fields(row.args)...)
		if err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: got %v, want an error with %q", row.args, err, row.says)
		}
	}
}

func TestAutomaticSizes(t *testing.T) {
	const gib = 1 << 30
	for _, row := range []struct {
		name                    string
		args                    []string
		memory, files           int64
		maxMemory, queued, conn int64
	}{
		{"a VPS", nil, gib, 1 << 20, gib / 4 * 3, 128 << 20, 32768},
		{"a small one", nil, gib / 2, 1 << 20, gib / 8 * 3, 64 << 20, 16384},
		{"20,000 WebSockets", []string{"-max-memory", "536870912"}, gib, 1 << 20, gib / 2, 89478485, 21845},
		{"few files", nil, gib, 2048, gib / 4 * 3, 128 << 20, 1736},
		{"few files, and pages", []string{"-public", t.TempDir()}, gib, 1024, gib / 4 * 3, 128 << 20, 600},
		{"unknown", nil, 0, 0, 0, 256 << 20, 1 << 20},
		{"given", []string{"-max-memory", "1000", "-max-conns", "7", "-max-queued-bytes", "0"}, gib, 1 << 20, 1000, 0, 7},
		{"none", []string{"-max-memory", "0", "-max-conns", "0"}, gib, 1 << 20, 0, 256 << 20, 0},
	} {
		c := mustResolve(t, Facts{MemoryBytes: row.memory, OpenFiles: row.files}, row.args...)
		if c.MaxMemoryBytes != row.maxMemory || c.Mailboxes.MaxQueuedBytes != row.queued || int64(c.MaxConns) != row.conn {
			t.Errorf("%s: got %d, %d, %d, want %d, %d, %d", row.name, c.MaxMemoryBytes, c.Mailboxes.MaxQueuedBytes, c.MaxConns, row.maxMemory, row.queued, row.conn)
		}
	}
}

// The memory is divided: with auto, connections that are no WebSockets are fewer.
func TestMemoryIsDivided(t *testing.T) {
	const gib, mib = 1 << 30, 1 << 20
	for _, row := range []struct {
		args                []string
		memory              int64
		connBytes, inFlight int64
		streams             int
	}{
		{nil, gib, 512 * mib, 128 * mib, 5461},
		{[]string{"-max-conns", "7"}, gib, 0, 128 * mib, 7},
		{[]string{"-max-queued-bytes", "32MiB"}, gib, 512 * mib, 32 * mib, 5461},
		{[]string{"-max-queued-bytes", "0"}, gib, 512 * mib, 0, 5461},
		{[]string{"-max-memory", "0"}, gib, 0, 256 * mib, 1 << 20},
		{[]string{"-max-memory", "8MiB"}, gib, 5592400, 4 * mib, 56},
	} {
		c := mustResolve(t, Facts{MemoryBytes: row.memory, OpenFiles: 1 << 21}, row.args...)
		if c.MaxConnBytes != row.connBytes || c.MaxInFlightBytes != row.inFlight || c.MaxStreams != row.streams {
			t.Errorf("%q: got %d, %d and %d streams, want %d, %d and %d", row.args, c.MaxConnBytes, c.MaxInFlightBytes, c.MaxStreams, row.connBytes, row.inFlight, row.streams)
		}
		if all := c.MaxConnBytes + c.MaxInFlightBytes + c.Mailboxes.MaxQueuedBytes; c.MaxMemoryBytes > 64*mib && all > c.MaxMemoryBytes {
			t.Errorf("%q: got parts of %d bytes of %d", row.args, all, c.MaxMemoryBytes)
		}
	}
}

func TestStateDir(t *testing.T) {
	rows := []struct {
		given   string
		environ []string
		want    string
	}{
		{"/given", []string{"STATE_DIRECTORY=/systemd"}, "/given"},
		{"", []string{"STATE_DIRECTORY=/one:/two", "HOME=/home/me"}, "/one"},
		{"", []string{"XDG_STATE_HOME=/xdg", "HOME=/home/me"}, "/xdg/inbox"},
		{"", []string{"XDG_STATE_HOME=relative", "HOME=/home/me"}, "/home/me/.local/state/inbox"},
		{"", []string{"HOME=/home/me"}, "/home/me/.local/state/inbox"},
		{"", nil, ""},
	}
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		rows = rows[:2] // the remaining rows apply to other systems
	}
	for _, tt := range rows {
		getenv := func(name string) string { return host.Getenv(tt.environ, name) }
		if got := stateDir(tt.given, getenv); got != tt.want {
			t.Errorf("stateDir(%q, %q) = %q, want %q", tt.given, tt.environ, got, tt.want)
		}
	}
}

// FuzzTrustedProxies parses arbitrary lists. Accepted entries must be networks that the
// list contains.
func FuzzTrustedProxies(f *testing.F) {
	for _, seed := range []string{"", "127.0.0.1", "10.0.0.0/8, ::1", "10.1.2.3/8", "::ffff:10.0.0.0/104", "0.0.0.0/0", "a", ",", "fe80::1%eth0", "10.0.0.0/33"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		c, err := resolve(Facts{}, "-https=false", "-trusted-proxies", list)
		if err != nil {
			return
		}
		for _, p := range c.TrustedProxies {
			if !p.IsValid() || p.Addr().Zone() != "" {
				t.Errorf("%q: accepted %v", list, p)
			}
			if p.Bits() == 0 && !bytes.Contains([]byte(list), []byte("/0")) {
				t.Errorf("%q: trusts every address with %v", list, p)
			}
			if p.Addr() != netip.MustParsePrefix(p.String()).Addr() {
				t.Errorf("%q: %v does not round-trip", list, p)
			}
		}
	})
}
