package acme

import (
	"testing"
	"time"
)

// A CA that finalizes the order but returns a chain without a certificate is not retried
// soon, by either engine.
func TestEmptyCertificateChain(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		r := newRig(t, pebbleOptions{}).with(engine)
		r.ca.emptyChains.Store(true)
		name := newName()
		s := r.serve(r.config(name))
		eventually(t, waitTimeout, "the state contains the failure", func() bool { return s.state(name).LastError != nil })
		if wait := time.Until(s.state(name).NextAttempt); wait < 14*time.Minute {
			t.Errorf("got the next attempt in %v after %v, want 15 minutes at least", wait, s.state(name).LastError)
		}
		if n := r.ca.orders(); n != 1 {
			t.Errorf("got %d orders, want 1", n)
		}
	})
}
