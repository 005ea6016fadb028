//go:build unix

package main

import (
	"testing"

	"inbox/cmd/inbox/internal/sdnotify"
)

// TestConfigShowsPassedSockets checks that sockets of systemd are the source of the addresses
// that they replace.
func TestConfigShowsPassedSockets(t *testing.T) {
	t.Parallel()
	m := newServiceManager(t)
	secure := m.passListener(sdnotify.HTTPS, "tcp", "[::1]:0")
	metrics := m.passListener(sdnotify.Metrics, "tcp", "127.0.0.1:0")
	out, err := m.command(t.Context(), "config", "-bind", ":1", "-state", t.TempDir()).Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := settingLines(t, string(out))
	for option, want := range map[string]string{
		"bind": secure.String() + " systemd socket https", "metrics-bind": metrics.String() + " systemd socket metrics",
		"turn-bind": ":3478 default",
	} {
		if lines[option] != want {
			t.Errorf("%s: got %q, want %q", option, lines[option], want)
		}
	}
}
