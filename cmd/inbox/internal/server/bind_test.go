package server

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/sdnotify"
)

func TestUnusableSocketPaths(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(config.Address{Option: "bind", Value: "unix:" + file}); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("a file: got %v", err)
	}
	l, err := listen(config.Address{Option: "bind", Value: "unix:" + filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := listen(config.Address{Option: "bind", Value: "unix:" + filepath.Join(dir, "s")}); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("a socket in use: got %v", err)
	}
	if _, err := listen(config.Address{Option: "bind", Value: "unix:" + filepath.Join(dir, "no", "s")}); err == nil {
		t.Error("missing directory: got a socket, want an error")
	}
}

// TestMissingHTTPSocketWarning checks the warning for a missing http socket. systemd does
// not pass a socket whose port is in use.
func TestMissingHTTPSocketWarning(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, row := range []struct {
		domains []string
		passed  map[string]net.Listener
		want    bool
	}{
		{[]string{"one.example"}, map[string]net.Listener{sdnotify.HTTPS: l}, true},
		{[]string{"one.example"}, map[string]net.Listener{sdnotify.HTTPS: l, sdnotify.HTTP: l}, false},
		{nil, map[string]net.Listener{sdnotify.HTTPS: l}, false},
	} {
		var log strings.Builder
		if _, err := inheritSockets(sdnotify.Sockets{Listeners: row.passed}, &config.Config{HTTPS: true, Domains: row.domains}, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Error(err)
		}
		if got := strings.Contains(log.String(), noRedirectListener); got != row.want {
			t.Errorf("%v with %d sockets: unexpected log %q", row.domains, len(row.passed), log.String())
		}
	}
}

// TestIgnoredAddressesAreReported checks the warning for each address that a socket of systemd
// replaces.
func TestIgnoredAddressesAreReported(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	given := func(option string) config.Address {
		return config.Address{Option: option, Value: ":1", From: "command line"}
	}
	c := &config.Config{HTTPS: true, Bind: given("bind"), HTTPBind: given("http-bind"), MetricsBind: given("metrics-bind")}
	for _, row := range []struct {
		passed string
		want   []string
	}{
		{sdnotify.HTTPS, []string{"-bind", "-http-bind"}},
		{sdnotify.Metrics, []string{"-metrics-bind"}},
	} {
		var log strings.Builder
		passed := sdnotify.Sockets{Listeners: map[string]net.Listener{row.passed: l}}
		if _, err := inheritSockets(passed, c, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Error(err)
		}
		if got := strings.Count(log.String(), "is ignored"); got != len(row.want) {
			t.Errorf("%s: got %d warnings, want %q:\n%s", row.passed, got, row.want, log.String())
		}
		for _, option := range row.want {
			if !strings.Contains(log.String(), option+" is ignored: using sockets passed by systemd") {
				t.Errorf("%s: no warning of %s:\n%s", row.passed, option, log.String())
			}
		}
	}
}
