package acme

import (
	"testing"
	"time"
)

// An authority that takes the order and gives a chain without a certificate is
// not asked again soon, by either engine.
func TestEmptyCertificateChain(t *testing.T) {
	for _, engine := range []string{"certmagic", "autocert"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{})
			r.ca.emptyChains.Store(true)
			name := newName()
			config := r.config(name)
			config.ACME.Engine = engine
			s := r.serve(config)
			eventually(t, waitTimeout, "the failure is in State", func() bool { return s.state(name).LastError != nil })
			if wait := time.Until(s.state(name).NextAttempt); wait < 14*time.Minute {
				t.Errorf("the next attempt is in %v after %v, want a quarter of an hour at least", wait, s.state(name).LastError)
			}
			if n := r.ca.orders(); n != 1 {
				t.Errorf("%d orders, want one", n)
			}
		})
	}
}
