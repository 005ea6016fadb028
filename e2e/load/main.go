// Load measures what relaying a message costs the server.
//
// It starts the server and, beside it, a bare net/http handler that keeps a
// message and hands it out without looking at anything. Both get the same
// requests in the same run, a round for the one and a round for the other, so
// that whatever else the machine does hits both. Pairs of peers, each pair on a
// loopback address of its own, relay messages: one leaves a message of the
// size of an offer, the other takes it. Connections are kept.
//
//	go run ./load                          the server and the bare handler
//	go run ./load -after                   messages are acknowledged
//	go run ./load -max-ratio 1.25          exit 1 when the server costs more
//	go run ./load -other 'x=x -bind {addr}'  another mailbox server as well
//	go run ./load -url http://127.0.0.1:3000 -pid 4711
//
// The figure that counts is the CPU time of the server's process for each
// message, beside that of the bare handler. Throughput and latency are those
// of this machine with the load tool on it.
//
// All traffic stays on loopback: another address is refused. A run ends by
// itself, after -rounds or -duration, whichever comes first. It takes two cores
// to be of use, and Linux.
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
	for _, scheme := range cfg.schemes() {
		if err := measure(ctx, cfg, scheme, dir, out); err != nil {
			return fmt.Errorf("over %s: %w", scheme, err)
		}
	}
	return nil
}

// measure runs all rounds over one scheme and prints their table.
func measure(ctx context.Context, cfg config, scheme, dir string, out io.Writer) error {
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
	fmt.Fprintf(out, "%s, %d pairs, %d messages of %d bytes a round, %d rounds\n",
		scheme, cfg.pairs, cfg.count, cfg.size, len(results[0].rounds))
	if err := printTable(out, results); err != nil {
		return err
	}
	return checkRatio(results, cfg.maxRatio)
}
