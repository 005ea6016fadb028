package acme

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func orderRetryAfter(Order) (int, error) {
	return 0, &OrderError{RetryAfter: 20 * time.Minute, Err: errors.New("429")}
}

// ordersAt returns the times of the orders at one CA, relative to start.
func (e *fakeEngine) ordersAt(caURL string, start time.Time) (all []time.Duration) {
	for i, at := range e.ordersSince(start) {
		if e.orderCAs[i] == caURL {
			all = append(all, at)
		}
	}
	return all
}

// The Retry-After of each CA holds across restarts and does not affect the other CA.
func TestRetryAfterIsPerCA(t *testing.T) {
	for _, throttling := range []string{"first", "fallback"} {
		t.Run(throttling, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var throttlingOrders, otherOrders []time.Duration
				for range 5 { // restarts
					s := newTestScheduler(t, dir, func(o Order) (int, error) {
						if o.CA.URL == throttling {
							return orderRetryAfter(o)
						}
						return orderUnreachable(o)
					})
					s.setCAs(s.Settings.CAs[0], &CAClient{URL: "fallback"})
					s.runFor(t, 9*time.Minute)
					throttlingOrders = append(throttlingOrders, s.engine.ordersAt(throttling, start)...)
					otherOrders = append(otherOrders, s.engine.ordersAt(map[string]string{"first": "fallback", "fallback": "first"}[throttling], start)...)
				}
				if len(throttlingOrders) != 3 || slices.ContainsFunc([]int{1, 2}, func(i int) bool { return throttlingOrders[i]-throttlingOrders[i-1] < 20*time.Minute }) {
					t.Errorf("got orders at the throttling CA at %v, want three, at least 20 minutes apart", throttlingOrders)
				}
				if len(otherOrders) < 10 || otherOrders[1] > 10*time.Second {
					t.Errorf("got orders at the other CA at %v, want at least 10, the second within 10 s", otherOrders)
				}
			})
		})
	}
}

// A certificate of the fallback CA does not cancel the Retry-After of the first CA.
func TestRetryAfterOutlivesSuccess(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, func(o Order) (int, error) {
			if o.CA.URL == "first" {
				return orderRetryAfter(o)
			}
			return 0, nil
		})
		s.setCAs(s.Settings.CAs[0], &CAClient{URL: "fallback", StorageKey: "fallback"})
		s.engine.lifetime = 6 * time.Minute
		start := time.Now()
		s.runFor(t, 19*time.Minute)
		if first, fallback := s.engine.ordersAt("first", start), s.engine.ordersAt("fallback", start); len(first) != 1 || len(fallback) < 3 {
			t.Errorf("got orders at the first CA at %v, at the fallback CA at %v, want one and at least three", first, fallback)
		}
	})
}

// After a failed validation, another challenge type that is unavailable does not
// advance the next order.
func TestUnavailableChallengeTypeKeepsSchedule(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, func(o Order) (int, error) {
			if o.ChallengeType.Name == TLSALPN01 {
				return orderFailsValidation(o)
			}
			return orderRetryAfter(o)
		})
		start := time.Now()
		s.runFor(t, time.Hour)
		if got, want := s.engine.ordersSince(start), minutes(0, 0, 20, 20, 50, 50); !slices.Equal(got, want) {
			t.Errorf("got orders at %v, want %v", got, want)
		}
	})
}
