// Package timeout bounds the wait for calls that cannot be canceled: a disk or a
// library can hang.
package timeout

import "time"

// Run calls do in a goroutine and waits for it up to limit. It reports whether do
// returned; after that the goroutine is left behind, so do must not write what
// the caller still reads.
func Run(limit time.Duration, do func()) (done bool) {
	ended := make(chan struct{})
	go func() { defer close(ended); do() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
		return false
	}
}
