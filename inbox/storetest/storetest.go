// Package storetest tests the contract of inbox.Store. Every engine must pass it. The
// tests assume nothing about the implementation. They sleep in multiples of
// [Engine].Tick, which takes no time inside a synctest bubble.
package storetest

import (
	"testing"
	"time"

	"inbox/inbox"
)

// Engine describes the engine under test to [Run].
type Engine struct {
	// New returns an empty store with these limits and registers its cleanup.
	New func(t *testing.T, limits inbox.Limits) inbox.Store
	// Join returns the store of another process that shares the mailboxes of s, and
	// registers its cleanup. Nil if the engine does not share mailboxes.
	Join func(t *testing.T, s inbox.Store) inbox.Store
	// Bubble runs a test in the time of the engine: synctest.Test for an in-process
	// engine, a plain call for a remote one. Nil is a plain call.
	Bubble func(t *testing.T, test func(*testing.T))
	// Parallel allows tests to run in parallel. The stores that New returns must then
	// be independent.
	Parallel bool
	// Tick is the time unit of the tests: the time resolution of the engine, with
	// tolerance for a busy machine.
	Tick time.Duration
}

// Run runs every test of the contract as a subtest.
func Run(t *testing.T, e Engine) {
	if e.Bubble == nil {
		e.Bubble = func(t *testing.T, test func(*testing.T)) { test(t) }
	}
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) {
			if e.Parallel {
				t.Parallel()
			}
			e.Bubble(t, func(t *testing.T) {
				limits := c.limits
				if limits.Timeout == shortTimeout {
					limits.Timeout = 20 * e.Tick
				} else {
					limits.Timeout = time.Hour // no expiry, even on a busy machine
				}
				c.test(&rig{T: t, tick: e.Tick, store: e.New(t, limits), join: e.Join})
			})
		})
	}
}
