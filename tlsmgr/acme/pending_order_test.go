package acme

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"inbox/tlsmgr/acme/schedule"
)

// pendingCA finalizes orders, and does not issue until issues is set. It records its
// requests: "new" or the URL of an order.
type pendingCA struct {
	asked  []string
	issues bool
	gone   bool
}

func (c *pendingCA) order(o Order) (int, error) {
	what := o.ResumeURL
	if what == "" {
		what = "new"
		o.Progress(schedule.Finalized, fmt.Sprintf("order-%d", len(c.asked)))
	}
	c.asked = append(c.asked, o.CA.URL+" "+what)
	switch {
	case what != "new" && c.gone:
		c.gone = false
		return 0, fmt.Errorf("%w: 404", ErrOrderGone)
	case c.issues:
		return 0, nil
	}
	return 0, &OrderError{Err: fmt.Errorf("%w: order is processing", ErrOrderPending)}
}

func (c *pendingCA) count(what string) (n int) {
	for _, a := range c.asked {
		if a == what {
			n++
		}
	}
	return n
}

// A finalized order is resumed, also after restarts, and no other order is made. It is
// logged once.
func TestPendingOrderIsResumed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ca := new(pendingCA)
		s := newTestScheduler(t, dir, ca.order)
		s.runFor(t, time.Hour)
		if n := ca.count("first new"); n != 1 || ca.count("first order-0") < 10 {
			t.Errorf("got %v, want one new order that is resumed", ca.asked)
		}
		if err := s.err(); !errors.Is(err, ErrOrderPending) && err == nil {
			t.Errorf("got %v, want what is waited for", err)
		}
		if n := s.log.Count("no certificate yet"); n != 1 {
			t.Errorf("got %d log lines, want 1:\n%s", n, s.log)
		}
		ca.issues = true
		s = newTestScheduler(t, dir, ca.order)
		s.runFor(t, 10*time.Minute)
		if n := ca.count("first new"); n != 1 || s.served() == nil {
			t.Errorf("after a restart: got %v, want the certificate of the first order", ca.asked)
		}
	})
}

// If a finalized order is gone, a new one is made immediately.
func TestGoneOrderIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := &pendingCA{}
		s := newTestScheduler(t, t.TempDir(), ca.order)
		s.runFor(t, time.Second)
		ca.gone, ca.issues = true, true
		s.runFor(t, 10*time.Minute)
		if n := ca.count("first new"); n != 2 || s.served() == nil {
			t.Errorf("got %v, want a second order that succeeds", ca.asked)
		}
	})
}

// The fallback CA is tried after the time limit for a finalized order at the first CA.
func TestPendingOrderGivesWayToFallbackCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := new(pendingCA)
		s := newTestScheduler(t, t.TempDir(), ca.order)
		s.setCAs(s.Settings.CAs[0], &CAClient{URL: "fallback", StorageKey: "fallback"})
		s.runFor(t, 14*time.Minute)
		if n := ca.count("fallback new"); n != 0 {
			t.Errorf("got %d orders at the fallback CA in 14 minutes, want none", n)
		}
		s.runFor(t, 30*time.Minute)
		if n := ca.count("fallback new"); n != 1 {
			t.Errorf("got %v, want one order at the fallback CA", ca.asked)
		}
	})
}

// After a failed order, the next one has no replaces field.
func TestRetryOmitsReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var omitted []bool
		s := newTestScheduler(t, t.TempDir(), func(o Order) (int, error) {
			omitted = append(omitted, o.OmitReplaces)
			return orderRefused(o)
		})
		s.runFor(t, 20*time.Minute)
		if len(omitted) != 2 || omitted[0] || !omitted[1] {
			t.Errorf("got %v, want it omitted in the second order", omitted)
		}
	})
}
