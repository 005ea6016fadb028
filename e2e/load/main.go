// Load measures the cost of relaying messages through the server, and the memory of peers that wait.
//
// It starts the server and a bare net/http handler as a baseline, which stores messages
// and returns them without any checks. Both get the same requests in alternating rounds
// of the same run, so that other load on the machine affects both. Each pair of peers
// has its own loopback address and relays messages of the size of an offer from a
// sender to a receiver over persistent connections.
//
//	go run ./load                          the server and the bare handler
//	go run ./load -after                   with acknowledgements
//	go run ./load -max-ratio 1.25          exit 1 if the server costs more
//	go run ./load -other 'x=x -bind {addr}'  another mailbox server as well
//	go run ./load -url http://127.0.0.1:3000 -pid 4711
//	go run ./load -transports all          over polls, event streams and WebSockets
//	go run ./load -peers 5000 -transports ws  memory of peers that wait, before and after messages
//
// The significant figure is the CPU time of the server process per message in
// comparison with the bare handler. Throughput and latency depend on this machine,
// which also runs the load tool.
//
// All traffic stays on loopback; other addresses are rejected. A run ends after -rounds
// or -duration, whichever comes first. It requires Linux and at least two cores.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, logs io.Writer) error {
	cfg, err := parse(args, logs)
	if err != nil {
		return err
	}
	if cfg.bare != "" {
		return serveBare(ctx, cfg.bare == "https", logs)
	}
	dir, err := os.MkdirTemp("", "inbox-load-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	measure := measureRelay
	if cfg.peers > 0 {
		measure = measureMemory
	}
	for _, scheme := range cfg.schemes() {
		if err := measure(ctx, cfg, scheme, dir, out); err != nil {
			return fmt.Errorf("over %s: %w", scheme, err)
		}
	}
	return nil
}

// measureRelay runs all rounds over one scheme and prints the results.
func measureRelay(ctx context.Context, cfg config, scheme, dir string, out io.Writer) error {
	targets, err := startTargets(ctx, cfg, scheme, dir)
	defer stopTargets(targets)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.duration)
	defer cancel()
	results, err := relay(ctx, cfg, targets)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s, %d pairs, %d messages of %d bytes per round, %d rounds\n",
		scheme, cfg.pairs, cfg.count, cfg.size, len(results[0].rounds))
	if err := printTable(out, results); err != nil {
		return err
	}
	return checkRatio(results, cfg.maxRatio)
}
