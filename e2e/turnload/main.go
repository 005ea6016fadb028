// Turnload measures the cost of relaying packets between two clients of the server.
//
// It starts the server, coturn, and a bare UDP forwarder as a baseline, which copies packets
// from one client to another without any checks. All get the same load in short alternating
// rounds of the same run, so that other load on the machine affects all of them. Half of the clients
// call the other half; each pair has its own loopback address.
//
//	go run ./turnload                                     all targets
//	go run ./turnload -rounds 100                         for longer
//	go run ./turnload -transport udp -other before=PATH   with another build of the server
//
// The significant figure is the CPU time of a process per relayed packet in comparison with
// the others. Loss changes it, so it counts only where all targets deliver almost all packets.
// The server has the socket that systemd passes to it, with its receive buffer.
//
// All traffic stays on loopback. It requires Linux, root for the receive buffer, and
// turnserver of coturn.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// config is the parsed command line.
type config struct {
	clients, size, rounds, memory int
	udpRate, tlsRate              int // packets per second of all clients
	duration                      time.Duration
	transport                     string // udp, tls or both
	other                         string // NAME=PATH of another build of the server
	forwarder                     bool
}

func parse(args []string, logs io.Writer) (cfg config, err error) {
	f := flag.NewFlagSet("turnload", flag.ContinueOnError)
	f.SetOutput(logs)
	f.IntVar(&cfg.clients, "clients", 40, "number of clients")
	f.IntVar(&cfg.size, "size", 1200, "payload of a packet in bytes")
	f.IntVar(&cfg.udpRate, "udp-rate", 8000, "packets per second of all clients over UDP")
	f.IntVar(&cfg.tlsRate, "tls-rate", 6000, "packets per second of all clients over TLS")
	f.IntVar(&cfg.rounds, "rounds", 15, "rounds per target")
	f.DurationVar(&cfg.duration, "duration", time.Second, "duration of a round")
	f.IntVar(&cfg.memory, "memory", 500, "allocations whose memory is measured")
	f.StringVar(&cfg.transport, "transport", "both", "transport to measure: udp, tls or both, which includes the memory")
	f.StringVar(&cfg.other, "other", "", "another build of the server to measure: `NAME=PATH` of the program")
	f.BoolVar(&cfg.forwarder, "forwarder", false, "run as the bare forwarder (used internally)")
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	return cfg, cfg.validate()
}

func (cfg config) validate() error {
	for _, n := range []struct {
		flag            string
		value, min, max int
	}{
		{"clients", cfg.clients, 2, 200}, {"size", cfg.size, 16, 1400}, {"udp-rate", cfg.udpRate, 1, 100_000},
		{"tls-rate", cfg.tlsRate, 1, 100_000}, {"rounds", cfg.rounds, 1, 100}, {"memory", cfg.memory, 10, 2000},
	} {
		if n.value < n.min || n.value > n.max {
			return fmt.Errorf("-%s %d: must be %d to %d", n.flag, n.value, n.min, n.max)
		}
	}
	if cfg.duration < 100*time.Millisecond || cfg.duration > time.Minute {
		return fmt.Errorf("-duration %v: must be 100ms to 1m", cfg.duration)
	}
	if cfg.transport != "udp" && cfg.transport != "tls" && cfg.transport != "both" {
		return fmt.Errorf("-transport %q: must be udp, tls or both", cfg.transport)
	}
	if name, path, _ := strings.Cut(cfg.other, "="); cfg.other != "" && (name == "" || path == "") {
		return fmt.Errorf("-other %q: must be NAME=PATH", cfg.other)
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "turnload:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, logs io.Writer) error {
	cfg, err := parse(args, logs)
	if err != nil {
		return err
	}
	if cfg.forwarder {
		return forward(ctx, logs)
	}
	dir, err := os.MkdirTemp("", "inbox-turnload-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	targets, err := startTargets(ctx, cfg, dir)
	defer stopTargets(targets)
	if err != nil {
		return err
	}
	for i, transport := range []string{"udp", "tls"} {
		if cfg.transport != transport && cfg.transport != "both" {
			continue
		}
		if err := measure(ctx, cfg, targets, i > 0, out); err != nil {
			return err
		}
	}
	if cfg.transport != "both" {
		return nil
	}
	return measureMemory(cfg, targets[0], out)
}
