package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"inbox/e2e"
)

// target is a server under measurement.
type target struct {
	name, addr string
	https      bool
	pid        int // 0: CPU time is unknown
	process    *e2e.Server
}

// startTargets starts the server, the bare handler and the other servers that support
// the scheme, or returns the running server at -url. The server is the first target and
// the bare handler the second. On an error it returns the targets already started,
// which the caller must stop.
func startTargets(ctx context.Context, cfg config, scheme, dir string) (targets []target, err error) {
	https := scheme == "https"
	if cfg.url != "" {
		return []target{{name: "server", addr: cfg.url, https: https, pid: cfg.pid}}, nil
	}
	add := func(name string, process *e2e.Server, err error) error {
		if err == nil {
			targets = append(targets, target{name, process.Addr, https, process.PID(), process})
		}
		return err
	}
	process, err := startInbox(ctx, cfg, https, dir)
	if err := add("inbox", process, err); err != nil {
		return targets, err
	}
	process, err = startBare(scheme)
	if err := add("bare net/http", process, err); err != nil {
		return targets, err
	}
	for _, o := range cfg.others {
		if https && !strings.Contains(o.command, "{https}") {
			continue
		}
		process, err := startOther(o, https)
		if err := add(o.name, process, err); err != nil {
			return targets, err
		}
	}
	return targets, nil
}

func stopTargets(targets []target) {
	for _, t := range targets {
		if t.process == nil {
			continue
		}
		// The exit code does not matter here; other servers do not handle SIGTERM.
		_ = t.process.Stop()
	}
}

func startInbox(ctx context.Context, cfg config, https bool, dir string) (*e2e.Server, error) {
	program, err := e2e.Build(ctx, dir)
	if err != nil {
		return nil, err
	}
	args := []string{"-bind", "127.0.0.1:0", "-state", filepath.Join(dir, "state"), fmt.Sprintf("-https=%t", https)}
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
	fill := strings.NewReplacer("{addr}", addr, "{https}", strconv.FormatBool(https))
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
