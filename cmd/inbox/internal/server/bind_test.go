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
