package main

import (
	"os"
	"time"
)

// signalDebounce is the time in which several signals are the same wish. Who ends a
// group of processes often sends each of them two: timeout(1) does, and a
// terminal together with a program that hands signals on.
const signalDebounce = time.Second

// handleSignals takes one step for each signal; after the last it ignores them.
func handleSignals(signals <-chan os.Signal, steps ...func()) {
	var last time.Time
	for _, step := range steps {
		for <-signals; time.Since(last) < signalDebounce; <-signals {
		}
		last = time.Now()
		step()
	}
}
