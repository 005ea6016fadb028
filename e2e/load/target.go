package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"inbox/e2e"
)

// target is a server under measurement, over one transport.
type target struct {
	name, addr string
	transport  transport
	https      bool
	pid        int // 0: CPU time is unknown
	process    *e2e.Server
}

// startTargets starts the server, the bare handler and the other servers that support the scheme,
// or returns the running server at -url. The server over the first transport is the first target,
// the bare handler the second, and the server over other transports follows, also with the clients of
// y-webrtc if its own server is measured. On an error it returns the targets already started, which
// the caller must stop.
func startTargets(ctx context.Context, cfg config, scheme, dir string) (targets []target, err error) {
	https := scheme == "https"
	transports := cfg.transportsOver(https)
	if len(transports) == 0 {
		return nil, fmt.Errorf("no transport of -transports %s exists over %s", cfg.transportList, scheme)
	}
	if cfg.url != "" {
		for _, t := range transports {
			targets = append(targets, target{name: "server, " + string(t), addr: cfg.url, transport: t, https: https, pid: cfg.pid})
		}
		return targets, nil
	}
	process, err := startInbox(ctx, cfg, https, dir)
	if err != nil {
		return nil, err
	}
	for _, t := range transports {
		targets = append(targets, target{"inbox, " + string(t), process.Addr, t, https, process.PID(), process})
	}
	if cfg.compares(yWebRTC) {
		targets = append(targets, target{"inbox, topics", process.Addr, yWebRTC, https, process.PID(), process})
	}
	starts := []start{{"bare net/http", poll, func() (*e2e.Server, error) { return startBare(scheme) }}}
	for _, o := range cfg.others {
		if !https || strings.Contains(o.command, "{https}") {
			starts = append(starts, start{o.name, o.transport, func() (*e2e.Server, error) { return startOther(o, https) }})
		}
	}
	for i, other := range starts {
		process, err := other.run()
		if err != nil {
			return targets, fmt.Errorf("start %s: %w", other.name, err)
		}
		t := target{other.name, process.Addr, other.transport, https, process.PID(), process}
		if i == 0 {
			targets = slices.Insert(targets, 1, t)
		} else {
			targets = append(targets, t)
		}
	}
	return targets, nil
}

// start starts another server.
type start struct {
	name      string
	transport transport
	run       func() (*e2e.Server, error)
}

func stopTargets(targets []target) {
	stopped := map[*e2e.Server]bool{nil: true}
	for _, t := range targets {
		if stopped[t.process] {
			continue
		}
		stopped[t.process] = true
		// The exit code does not matter here; other servers do not handle SIGTERM.
		_ = t.process.Stop()
	}
}

func startInbox(ctx context.Context, cfg config, https bool, dir string) (*e2e.Server, error) {
	program := cfg.program
	if program == "" {
		var err error
		if program, err = e2e.Build(ctx, dir); err != nil {
			return nil, err
		}
	}
	args := []string{"-bind", "127.0.0.1:0", "-state", filepath.Join(dir, "state"), fmt.Sprintf("-https=%t", https)}
	if cfg.compares(yWebRTC) {
		args = append(args, "-compat", "topics")
	}
	if slices.Contains(cfg.transports, peerJS) {
		args = append(args, "-compat", "peerjs")
	}
	return e2e.Start(program, append(args, strings.Fields(cfg.serverFlags)...)...)
}

func startBare(scheme string) (*e2e.Server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return e2e.Start(self, "-bare", scheme)
}

func startOther(o other, https bool) (*e2e.Server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	fill := strings.NewReplacer("{addr}", addr, "{port}", port, "{https}", strconv.FormatBool(https))
	command := strings.Fields(fill.Replace(o.command))
	return e2e.StartCommand(addr, command[0], command[1:]...)
}

// freeAddr finds a free address for a program that does not report its own.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
