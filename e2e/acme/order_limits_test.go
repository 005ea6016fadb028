package acme

import (
	"testing"
	"time"

	"inbox/tlsmgr/acme/autocert"
)

// Neither restarts nor reloads cause an order before the next attempt is due.
func TestRestartLoopMakesNoExtraOrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		engine string
		orders int // at most, in one attempt with both challenge types
	}{{"certmagic", 2}, {"autocert", 3}} {
		t.Run(tt.engine, func(t *testing.T) {
			t.Parallel()
			r, name := newRig(t, pebbleOptions{httpPort: freePort(t), tlsPort: freePort(t)}).with(tt.engine), newName()
			c := r.config(name)
			s := r.serve(c)
			eventually(t, waitTimeout, "the first attempt fails", func() bool { return s.state(name).Failures == 1 })
			if !s.log.has("the CA says:") || !s.log.has("make sure that the name resolves to this server") {
				t.Error("the log does not contain the error of the CA and a fix")
			}
			orders, validations := r.ca.orders(), r.ca.validations()
			if orders > tt.orders || validations != 2 {
				t.Errorf("got %d orders and %d validations for one attempt, want at most %d and 2", orders, validations, tt.orders)
			}
			for range 5 {
				s.stop()
				s = r.serve(c)
				for range 3 {
					s.source.Reload()
				}
				eventually(t, waitTimeout, "the name backs off", func() bool { return s.state(name).Status == "waiting to retry" })
			}
			if got := r.ca.orders(); got != orders {
				t.Errorf("got %d orders after five restarts, want still %d", got, orders)
			}
			if got := s.state(name); got.LastError == nil || got.Failures != 1 {
				t.Errorf("got state %+v, want the failure", got)
			}
		})
	}
}

// The server makes no order until the name resolves to an address.
func TestWaitsForAnAddress(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	r.names.setUnknown(name, true)
	c := r.config(name)
	c.ACME.WaitForAddress, c.ACME.Resolver = true, r.names.resolver()
	s := r.serve(c)
	eventually(t, waitTimeout, "the server waits for an address", func() bool { return s.state(name).Status == "waiting for an address" })
	if got := r.ca.orders(); got != 0 {
		t.Errorf("got %d orders for a name without an address, want none", got)
	}
	r.names.setUnknown(name, false)
	s.waitForCert(waitTimeout, name)
}

// With StagingFirst, the first order goes to the staging CA. If it fails there, no order is
// made at the production CA. An unavailable staging CA is skipped.
func TestStagingFirst(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                        string
		breakStaging                func(*rig, *pebble)
		reachable, certified, tried bool
	}{
		{"passes", func(*rig, *pebble) {}, true, true, true},
		{"fails", func(*rig, *pebble) {}, false, false, true},
		{"unavailable", func(_ *rig, staging *pebble) { staging.close() }, true, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, name, o := newRig(t, pebbleOptions{}), newName(), pebbleOptions{}
			if !tt.reachable {
				o.httpPort, o.tlsPort = freePort(t), freePort(t)
			}
			staging := r.newCA(o)
			tt.breakStaging(r, staging)
			c := r.config(name)
			c.ACME.StagingFirst = true
			c.ACME.StagingCA = staging.option()
			s := r.serve(c)
			if tt.certified {
				s.waitForCert(waitTimeout, name)
			} else {
				eventually(t, waitTimeout, "the staging order fails", func() bool { return s.state(name).Failures == 1 })
			}
			if got := r.ca.orders() == 1; got != tt.certified {
				t.Errorf("got %d orders at the production CA, want one: %v", r.ca.orders(), tt.certified)
			}
			if got := staging.orders() > 0; got != tt.tried {
				t.Errorf("got %d orders at the staging CA, want any: %v", staging.orders(), tt.tried)
			}
		})
	}
}

// The renewal timer of autocert cannot be stopped. It must not order, even after the server
// has stopped.
func TestAutocertTimerOrdersNothing(t *testing.T) {
	t.Parallel()
	const life = 12 * time.Second
	r, name := newRig(t, pebbleOptions{validity: life}), newName()
	c := r.config(name)
	c.ACME.Engine = autocert.New
	s := r.serve(c)
	s.waitForCert(waitTimeout, name)
	end := s.state(name).NotAfter
	s.stop()
	requests, orders := r.ca.requestCount("dir"), r.ca.orders()
	eventually(t, 2*life, "the certificate expires", func() bool { return time.Now().After(end) })
	if r.ca.orders() != orders || r.ca.requestCount("dir") != requests {
		t.Errorf("got %d orders and %d directory requests after the server stopped, want none", r.ca.orders()-orders, r.ca.requestCount("dir")-requests)
	}
}

// The server sends no request before the Retry-After of the CA has passed.
func TestRetryAfterIsHonored(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	r.ca.mode.Store(429)
	r.ca.retryAfterSeconds.Store(3600)
	name := newName()
	s := r.serve(r.config(name))
	eventually(t, waitTimeout, "the state contains the failure", func() bool { return s.state(name).LastError != nil })
	if wait := time.Until(s.state(name).NextAttempt); wait < 59*time.Minute {
		t.Errorf("got the next attempt in %v, want an hour", wait)
	}
	requests := r.ca.requestCount("dir")
	for range 3 {
		s.source.Reload()
		time.Sleep(50 * time.Millisecond) // time for an unwanted request
	}
	if got := r.ca.requestCount("dir"); got != requests {
		t.Errorf("got %d requests despite Retry-After, want none", got-requests)
	}
}
