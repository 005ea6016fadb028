package main

import (
	"os"
	"time"
)

// signalDebounce is the time within which several signals count as one. A process often
// receives two for one request to stop: from timeout(1), or from a terminal and from a
// parent that forwards signals.
const signalDebounce = time.Second

// handleSignals calls one step per signal, in order. After the last step it returns, and
// further signals are ignored.
func handleSignals(signals <-chan os.Signal, steps ...func()) {
	var last time.Time
	for _, step := range steps {
		for <-signals; time.Since(last) < signalDebounce; <-signals {
		}
		last = time.Now()
		step()
	}
}
