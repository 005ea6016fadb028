package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"inbox/e2e/proc"
)

// round is the measurement of one target in one round.
type round struct {
	took, cpu time.Duration // cpu: of the server process, per message
	messages  int
}

// result is all measurements of one target.
type result struct {
	target
	rounds    []round
	latencies []time.Duration
}

// relay connects the pairs of every target, runs a warm-up round, and then alternates
// between the targets in rotating order.
func relay(ctx context.Context, cfg config, targets []target) ([]result, error) {
	results := make([]result, len(targets))
	pairs := make([][]*pair, len(targets))
	for i, t := range targets {
		results[i].target = t
		for n := range cfg.pairs {
			p, err := newPair(ctx, cfg, t, n)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			// Pending reads end with ctx.
			defer context.AfterFunc(ctx, p.close)()
			defer p.close()
			pairs[i] = append(pairs[i], p)
		}
	}
	for r := range cfg.rounds + 1 {
		err := runRound(cfg, r, results, pairs)
		switch {
		case err == nil:
		case ctx.Err() == nil:
			return nil, err
		case r < 2:
			return nil, fmt.Errorf("no round completed within -duration %v: %w", cfg.duration, err)
		default:
			return results, nil
		}
	}
	return results, nil
}

// runRound runs round r of every target. Round 0 is the warm-up.
func runRound(cfg config, r int, results []result, pairs [][]*pair) error {
	for i := range results {
		index := (i + r) % len(results)
		if err := results[index].run(cfg, pairs[index], r > 0); err != nil {
			return fmt.Errorf("%s, round %d: %w", results[index].name, r, err)
		}
	}
	return nil
}

// run runs one round and adds its measurements if record is set.
func (r *result) run(cfg config, pairs []*pair, record bool) error {
	before, err := r.cpuTime()
	if err != nil {
		return err
	}
	start := time.Now()
	latencies, err := relayAll(pairs, cfg.count/len(pairs))
	if err != nil {
		return err
	}
	took := time.Since(start)
	after, err := r.cpuTime()
	if err != nil || !record {
		return err
	}
	n := len(latencies)
	r.rounds = append(r.rounds, round{took, (after - before) / time.Duration(n), n})
	r.latencies = append(r.latencies, latencies...)
	return nil
}

func (t target) cpuTime() (time.Duration, error) {
	if t.pid == 0 {
		return 0, nil
	}
	return proc.ID(t.pid).CPU()
}

// relayAll relays count messages with every pair and returns the latencies from the
// sending of a message to its arrival.
func relayAll(pairs []*pair, count int) ([]time.Duration, error) {
	latencies := make([][]time.Duration, len(pairs))
	errs := make([]error, len(pairs))
	var wg sync.WaitGroup
	for i, p := range pairs {
		wg.Go(func() {
			latencies[i] = make([]time.Duration, count)
			for n := range count {
				start := time.Now()
				if errs[i] = p.relay(); errs[i] != nil {
					return
				}
				latencies[i][n] = time.Since(start)
			}
			errs[i] = p.settle()
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return slices.Concat(latencies...), nil
}
