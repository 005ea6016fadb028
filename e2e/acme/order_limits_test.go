package acme

import (
	"testing"
	"time"

	"inbox/tlsmgr"
)

// Neither restarts nor a person who presses «reload» get through to the
// authority before the time.
func TestRestartLoopMakesNoExtraOrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		engine string
		orders int // of one attempt: one for each door
	}{{tlsmgr.CertMagic, 2}, {tlsmgr.Autocert, 3}} {
		t.Run(tt.engine, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{httpPort: freePort(t), tlsPort: freePort(t)})
			name := newName()
			c := r.config(name)
			c.ACME.Engine = tt.engine
			s := r.serve(c)
			eventually(t, waitTimeout, "the first attempt has failed", func() bool { return s.state(name).Failures == 1 })
			if !s.log.has("the authority says:") || !s.log.has("make sure that the name's address is this server's") {
				t.Error("the log has not the authority's words and what to do")
			}
			orders, validations := r.ca.orders(), r.ca.validations()
			if orders > tt.orders || validations != 2 {
				t.Errorf("%d orders and %d validations for one attempt, want at most %d and 2", orders, validations, tt.orders)
			}
			for range 5 {
				s.stop()
				s = r.serve(c)
				for range 3 {
					s.source.Reload()
				}
				eventually(t, waitTimeout, "the name is waited with", func() bool { return s.state(name).Status == "waiting to try again" })
			}
			if got := r.ca.orders(); got != orders {
				t.Errorf("%d orders after five restarts, want the %d of before", got, orders)
			}
			if got := s.state(name); got.LastError == nil || got.Failures != 1 {
				t.Errorf("State = %+v, want the failure remembered", got)
			}
		})
	}
}

// A name without an address is waited for, and ordered once it has one.
func TestWaitsForAnAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	name := newName()
	r.names.setUnknown(name, true)
	c := r.config(name)
	c.ACME.WaitForAddress, c.ACME.Resolver = true, r.names.resolver()
	s := r.serve(c)
	eventually(t, waitTimeout, "the name is waited for", func() bool { return s.state(name).Status == "waiting for an address" })
	if got := r.ca.orders(); got != 0 {
		t.Errorf("%d orders for a name without an address, want none", got)
	}
	r.names.setUnknown(name, false)
	s.waitForCert(waitTimeout, name)
}

// The first order is tried elsewhere: it costs nothing there when it fails,
// and when that place is away it is made without.
func TestStagingFirst(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                   string
		spoil                  func(*rig, *pebble)
		open, certified, tried bool
	}{
		{"passes", func(*rig, *pebble) {}, true, true, true},
		{"fails", func(*rig, *pebble) {}, false, false, true},
		{"away", func(_ *rig, staging *pebble) { staging.close() }, true, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pebbleOptions{})
			o := pebbleOptions{httpPort: r.httpPort, tlsPort: r.tlsPort, nameserver: r.names.addr}
			if !tt.open {
				o.httpPort, o.tlsPort = freePort(t), freePort(t)
			}
			staging := newPebble(t, o)
			tt.spoil(r, staging)
			name := newName()
			c := r.config(name)
			c.ACME.StagingFirst = true
			c.ACME.StagingCA = tlsmgr.CA{URL: staging.url(), RootsFile: staging.serverRootFile}
			s := r.serve(c)
			if tt.certified {
				s.waitForCert(waitTimeout, name)
			} else {
				eventually(t, waitTimeout, "the trial has failed", func() bool { return s.state(name).Failures == 1 })
			}
			if got := r.ca.orders() == 1; got != tt.certified {
				t.Errorf("%d orders at the real place, want one: %v", r.ca.orders(), tt.certified)
			}
			if got := staging.orders() > 0; got != tt.tried {
				t.Errorf("%d orders at the trial, want any: %v", staging.orders(), tt.tried)
			}
		})
	}
}

// autocert renews by a timer that nobody can stop. Here the timer finds nothing
// to do, even when the server that ordered is long gone.
func TestAutocertTimerOrdersNothing(t *testing.T) {
	t.Parallel()
	const life = 12 * time.Second
	r := newRig(t, pebbleOptions{validity: life})
	name := newName()
	c := r.config(name)
	c.ACME.Engine = tlsmgr.Autocert
	s := r.serve(c)
	s.waitForCert(waitTimeout, name)
	end := s.state(name).NotAfter
	s.stop()
	asked, orders := r.ca.requestCount("dir"), r.ca.orders()
	eventually(t, 2*life, "the end of the certificate", func() bool { return time.Now().After(end) })
	if r.ca.orders() != orders || r.ca.requestCount("dir") != asked {
		t.Errorf("%d orders and %d questions after the server had stopped, want none", r.ca.orders()-orders, r.ca.requestCount("dir")-asked)
	}
}

// An authority that asks for patience gets it.
func TestRetryAfterIsHonored(t *testing.T) {
	t.Parallel()
	r := newRig(t, pebbleOptions{})
	r.ca.mode.Store(429)
	r.ca.retryAfterSeconds.Store(3600)
	name := newName()
	s := r.serve(r.config(name))
	eventually(t, waitTimeout, "the failure is in State", func() bool { return s.state(name).LastError != nil })
	if wait := time.Until(s.state(name).NextAttempt); wait < 59*time.Minute {
		t.Errorf("the next attempt is in %v, want an hour", wait)
	}
	asked := r.ca.requestCount("dir")
	for range 3 {
		s.source.Reload()
		time.Sleep(50 * time.Millisecond) // so that a wrong one would have the time to ask
	}
	if got := r.ca.requestCount("dir"); got != asked {
		t.Errorf("asked %d times more in spite of Retry-After", got-asked)
	}
}
