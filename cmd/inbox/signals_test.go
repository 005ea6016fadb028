package main

import (
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestSignalDebounce checks that signals within signalDebounce count as one.
func TestSignalDebounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals, taken := make(chan os.Signal, 3), 0
		step := func() { taken++ }
		go handleSignals(signals, step, step, step)
		for _, test := range []struct {
			after time.Duration
			want  int
		}{
			{0, 1}, {0, 1}, {signalDebounce / 2, 1}, {signalDebounce/2 - 1, 1}, {1, 2}, {signalDebounce / 2, 2}, {signalDebounce, 3},
		} {
			time.Sleep(test.after)
			signals <- syscall.SIGTERM
			synctest.Wait()
			if taken != test.want {
				t.Errorf("%v later: got %d steps, want %d", test.after, taken, test.want)
			}
		}
	})
}
