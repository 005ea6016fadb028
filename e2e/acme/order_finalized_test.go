package acme

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// showStatus makes the CA show another status of finalized orders while hidden.
func (p *pebble) showStatus(status string, hidden *atomic.Bool, header map[string]string) {
	p.alter(func(w http.ResponseWriter, r *http.Request) bool {
		isFinalize := strings.HasPrefix(r.URL.Path, finalizePath)
		if !hidden.Load() || !isFinalize && !strings.HasPrefix(r.URL.Path, orderPath) {
			return false
		}
		recorded := p.passOn(r)
		if s := recorded.Body.String(); !strings.Contains(s, `"processing"`) && !strings.Contains(s, `"valid"`) {
			send(w, recorded, nil)
			return true
		}
		for name, value := range header {
			w.Header().Set(name, value)
		}
		send(w, recorded, func(order map[string]any) {
			order["status"] = status
			delete(order, "certificate")
		})
		return true
	})
}

// An order that the CA has finalized and reports as ready or processing is polled. No other
// order is made, and no other challenge type is tried.
func TestFinalizedOrderIsWaitedFor(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		for _, status := range []string{"ready", "processing"} {
			t.Run(status, func(t *testing.T) {
				t.Parallel()
				r, name := newRig(t, pebbleOptions{}).with(engine), newName()
				var hidden atomic.Bool
				hidden.Store(true)
				r.ca.showStatus(status, &hidden, nil)
				s := r.serve(r.config(name))
				eventually(t, waitTimeout, "the order is polled several times", func() bool { return r.ca.requestCount("my-order") >= 4 })
				hidden.Store(false)
				s.waitForCert(waitTimeout, name)
				if n, v := r.ca.orders(), r.ca.validations(); n != 1 || v != 1 {
					t.Errorf("got %d orders and %d validations, want 1 and 1", n, v)
				}
			})
		}
	})
}

// Polling stops if the CA requests a longer wait. The state contains the reason, and after a
// restart the same order is resumed.
func TestFinalizedOrderSurvivesRestart(t *testing.T) {
	t.Parallel()
	r, name := newRig(t, pebbleOptions{}), newName()
	var hidden atomic.Bool
	hidden.Store(true)
	r.ca.showStatus("processing", &hidden, map[string]string{"Retry-After": "600"})
	s := r.serve(r.config(name))
	eventually(t, waitTimeout, "the state has the order", func() bool {
		err := s.state(name).LastError
		return err != nil && strings.Contains(err.Error(), "has not issued the certificate yet")
	})
	n := s.state(name)
	if wait := time.Until(n.NextAttempt); wait < 9*time.Minute || wait > 11*time.Minute {
		t.Errorf("got the next attempt in %v, want the 10 minutes that the CA requests", wait)
	}
	if !strings.Contains(n.LastError.Error(), "processing") || !strings.Contains(n.Status, "waiting for the CA to issue") {
		t.Errorf("got %q and %v, want what is waited for", n.Status, n.LastError)
	}
	if s.log.has("port 80 or 443") {
		t.Error("the log blames the ports, although the name is validated")
	}
	s.stop()
	hidden.Store(false)
	shiftSchedule(t, r, name, -time.Hour)
	s = r.serveCertified(name)
	if got := r.ca.orders(); got != 1 {
		t.Errorf("got %d orders, want 1", got)
	}
}

// A new order replaces one that the CA no longer knows, or whose key is lost.
func TestFinalizedOrderIsGone(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"unknown to the CA", "key lost"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r, name := newRig(t, pebbleOptions{}), newName()
			var hidden atomic.Bool
			hidden.Store(true)
			r.ca.showStatus("processing", &hidden, map[string]string{"Retry-After": "600"})
			s := r.serve(r.config(name))
			eventually(t, waitTimeout, "the order is pending", func() bool { return s.state(name).LastError != nil })
			s.stop()
			gone := int32(1)
			if what == "key lost" {
				gone = 0
				removeAll(t, statePath(r, "orders"))
			}
			r.ca.alter(func(w http.ResponseWriter, req *http.Request) bool {
				if !strings.HasPrefix(req.URL.Path, orderPath) || atomic.AddInt32(&gone, -1) < 0 {
					return false
				}
				r.ca.refuse(w, 404, "malformed", "no such order")
				return true
			})
			shiftSchedule(t, r, name, -time.Hour)
			s = r.serveCertified(name)
			if got := r.ca.orders(); got != 2 {
				t.Errorf("got %d orders, want 2", got)
			}
		})
	}
}

// An order that becomes invalid after it was finalized is a refusal: no other challenge
// type is tried, and the next order waits.
func TestOrderInvalidAfterFinalization(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		r, name := newRig(t, pebbleOptions{}).with(engine), newName()
		var hidden atomic.Bool
		hidden.Store(true)
		r.ca.showStatus("invalid", &hidden, nil)
		s := r.serve(r.config(name))
		eventually(t, waitTimeout, "the order failed", func() bool { return s.state(name).Failures > 0 })
		if n := s.state(name); time.Until(n.NextAttempt) < 14*time.Minute || r.ca.orders() != 1 || r.ca.validations() != 1 {
			t.Errorf("got next attempt %v, %d orders, %d validations; want 15 minutes, 1 and 1", n.NextAttempt, r.ca.orders(), r.ca.validations())
		}
	})
}

// Responses that hide a success do not cause another order.
func TestHiddenSuccess(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		for what, path := range map[string]string{"finalize answered 500": finalizePath, "finalize answered 502 by a proxy": finalizePath,
			"certificate answered 404": certPath} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				r, name := newRig(t, pebbleOptions{}).with(engine), newName()
				var altered atomic.Int32
				r.ca.alter(func(w http.ResponseWriter, req *http.Request) bool {
					if !strings.HasPrefix(req.URL.Path, path) || altered.Add(1) > 2 {
						return false
					}
					r.ca.passOn(req)
					switch what {
					case "finalize answered 500":
						r.ca.refuse(w, 500, "serverInternal", "a hiccup")
					case "finalize answered 502 by a proxy":
						http.Error(w, "bad gateway", http.StatusBadGateway)
					default:
						r.ca.refuse(w, 404, "malformed", "certificate not found")
					}
					return true
				})
				r.serveCertified(name)
				if got := r.ca.orders(); got != 1 {
					t.Errorf("got %d orders, want 1", got)
				}
			})
		}
	})
}
