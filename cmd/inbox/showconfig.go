package main

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/sdnotify"
	"inbox/cmd/inbox/internal/server"
)

// showConfig prints the configuration in force with the sources of the values, and the warnings
// that the server would log.
func (p process) showConfig(options *config.Options, cfg *config.Config) int {
	sockets, err := passedSockets(p.getenv, cfg)
	if err = errors.Join(err, server.CheckCertificates(cfg)); err != nil {
		return p.fail(exitUsage, err)
	}
	fmt.Fprint(p.stdout, formatSettings(config.Settings(options, cfg, p.getenv), sockets))
	for _, w := range cfg.Warnings {
		from := ""
		if w.From != "" {
			from = " (from " + w.From + ")"
		}
		fmt.Fprintf(p.stderr, "inbox: warning: %s%s: %s; %s\n", w.Name, from, w.Text, w.Fix)
	}
	return exitDone
}

// passedSocket is a socket of systemd that replaces an address.
type passedSocket struct{ name, address string }

// passedSockets returns the sockets that systemd passes, by the options that they replace.
func passedSockets(getenv func(name string) string, cfg *config.Config) (map[string]passedSocket, error) {
	passed, err := sdnotify.TakeSockets(getenv)
	if err != nil {
		return nil, err
	}
	defer passed.Close()
	byOption := map[string]passedSocket{}
	add := func(option, name string, addr net.Addr) { byOption[option] = passedSocket{name, addr.String()} }
	options := map[string]string{sdnotify.HTTPS: "bind", sdnotify.HTTP: "http-bind", sdnotify.Metrics: "metrics-bind"}
	if !cfg.HTTPS {
		options[sdnotify.HTTP] = "bind"
	}
	for name, l := range passed.Listeners {
		add(options[name], name, l.Addr())
	}
	if turn := passed.Datagrams[sdnotify.TURN]; turn != nil {
		add("turn-bind", sdnotify.TURN, turn.LocalAddr())
	}
	return byOption, nil
}

// maxValueColumn bounds the width of the column of values. Longer values are followed by their
// source.
const maxValueColumn = 28

// formatSettings returns the settings as a table with a heading for each group.
func formatSettings(settings []config.Setting, sockets map[string]passedSocket) string {
	nameColumn, valueColumn := 0, 0
	for i, s := range settings {
		if socket, found := sockets[s.Name]; found {
			settings[i].Value, settings[i].From = socket.address, "systemd socket "+socket.name
		}
		nameColumn = max(nameColumn, len(s.Name))
		if n := len(settings[i].Value); n <= maxValueColumn {
			valueColumn = max(valueColumn, n)
		}
	}
	var b strings.Builder
	group := ""
	for _, s := range settings {
		if s.Group != group {
			fmt.Fprintf(&b, "%s# %s\n", strings.Repeat("\n", min(1, len(group))), s.Group)
			group = s.Group
		}
		fmt.Fprintf(&b, "%-*s  %-*s  %s\n", nameColumn, s.Name, valueColumn, s.Value, s.From)
	}
	return b.String()
}
