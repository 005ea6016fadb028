package attack

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"sync"
	"testing"

	"inbox/e2e"
)

// program is the path of the server binary, built once for all attacks.
var program string

func TestMain(m *testing.M) {
	if flood := os.Getenv(floodEnv); flood != "" {
		if err := runFloodInChild(flood); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	e2e.Main(m, &program)
}

func TestAttacks(t *testing.T) {
	extended := os.Getenv("ATTACK_LONG") != ""
	pattern, err := regexp.Compile(os.Getenv("ATTACK"))
	if err != nil {
		t.Fatalf("ATTACK: %v", err)
	}
	planned := plan(attacks(extended), pattern, extended)
	if len(planned) == 0 {
		t.Fatalf("ATTACK=%s matches no attack", pattern)
	}
	outcomes, errs := runAll(t.Context(), planned, idleGoroutines(t))
	for i, o := range outcomes {
		t.Run(o.name, func(t *testing.T) {
			if errs[i] != nil {
				t.Fatal(errs[i])
			}
			for _, f := range o.failures {
				t.Error(f)
			}
		})
	}
	printTable(os.Stdout, outcomes)
}

// plan sets the memory limits of the attacks, and selects those whose name then matches pattern.
func plan(all []attack, pattern *regexp.Regexp, extended bool) (planned []attack) {
	for _, a := range all {
		variants := []attack{a}
		if a.memory == 0 {
			variants[0].memory = smallMemory
			if extended {
				a.name += ", 1 GiB machine"
				a.memory = largeMemory
				variants = append(variants, a)
			}
		}
		for _, v := range variants {
			if pattern.MatchString(v.name) {
				planned = append(planned, v)
			}
		}
	}
	return planned
}

// runAll runs the attacks one after another, and the slow ones in parallel. The next attack
// begins while the server of the previous one recovers. Attacks that
// measure latencies come first and have the machine to themselves.
func runAll(ctx context.Context, planned []attack, idleCount int) ([]outcome, []error) {
	outcomes, errs := make([]outcome, len(planned)), make([]error, len(planned))
	var wg sync.WaitGroup
	attackOne := func(i int) {
		done := make(chan struct{})
		wg.Go(func() { outcomes[i], errs[i] = run(ctx, program, planned[i], idleCount, func() { close(done) }) })
		<-done
	}
	for i, a := range planned {
		if a.measuresLatency {
			attackOne(i)
		}
	}
	for i, a := range planned {
		if a.slow {
			wg.Go(func() { attackOne(i) })
		}
	}
	for i, a := range planned {
		if !a.slow && !a.measuresLatency {
			attackOne(i)
		}
	}
	wg.Wait()
	return outcomes, errs
}

// idleGoroutines returns the number of goroutines of a server without an attack.
func idleGoroutines(t *testing.T) int {
	t.Helper()
	o, err := run(t.Context(), program, attack{name: "none", memory: smallMemory}, 0, func() {})
	if err != nil || len(o.failures) > 0 || o.goroutines == 0 {
		t.Fatalf("idle server: got %v, %v, %d goroutines", err, o.failures, o.goroutines)
	}
	return o.goroutines
}
