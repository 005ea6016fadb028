package tlsmgr

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func orderRetryAfter(order) (int, error) {
	return 0, &orderError{retryAfter: 20 * time.Minute, err: errors.New("429")}
}

// ordersAt are the times of the orders at one authority, from a start.
func (e *fakeEngine) ordersAt(caURL string, start time.Time) (all []time.Duration) {
	for i, at := range e.ordersSince(start) {
		if e.orderCAs[i] == caURL {
			all = append(all, at)
		}
	}
	return all
}

// Of two authorities each is left in peace for as long as it asked, over restarts
// and while the other has no time, and no longer because of the other.
func TestRetryAfterIsPerCA(t *testing.T) {
	for _, throttling := range []string{"first", "second"} {
		t.Run(throttling, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var throttlingOrders, otherOrders []time.Duration
				for range 5 { // lives
					s := newTestScheduler(t, dir, func(o order) (int, error) {
						if o.ca.url == throttling {
							return orderRetryAfter(o)
						}
						return orderUnreachable(o)
					})
					s.settings.cas = append(s.settings.cas, &caClient{url: "second"})
					s.schedules = newScheduleStore(dirStorage{dir, s.settings.Logger}, s.settings)
					s.runFor(t, 9*time.Minute)
					throttlingOrders = append(throttlingOrders, s.engine.ordersAt(throttling, start)...)
					otherOrders = append(otherOrders, s.engine.ordersAt(map[string]string{"first": "second", "second": "first"}[throttling], start)...)
				}
				if len(throttlingOrders) != 3 || slices.ContainsFunc([]int{1, 2}, func(i int) bool { return throttlingOrders[i]-throttlingOrders[i-1] < 20*time.Minute }) {
					t.Errorf("the busy authority was asked at %v, want three times, 20 minutes apart", throttlingOrders)
				}
				if len(otherOrders) < 10 || otherOrders[1] > 10*time.Second {
					t.Errorf("the other authority was asked at %v, want soon and often", otherOrders)
				}
			})
		})
	}
}

// A certificate of the second authority does not make the first one's patience end.
func TestRetryAfterOutlivesSuccess(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, func(o order) (int, error) {
			if o.ca.url == "first" {
				return orderRetryAfter(o)
			}
			return 0, nil
		})
		s.settings.cas = append(s.settings.cas, &caClient{url: "second", storageKey: "second"})
		s.engine.lifetime = 6 * time.Minute
		start := time.Now()
		s.runFor(t, 19*time.Minute)
		if first, second := s.engine.ordersAt("first", start), s.engine.ordersAt("second", start); len(first) != 1 || len(second) < 3 {
			t.Errorf("the first authority was asked at %v, the second at %v; want once, and at each renewal", first, second)
		}
	})
}

// Where one challenge fails, another that cannot be tried does not bring the next
// order forward.
func TestUnavailableChallengeTypeKeepsSchedule(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newTestScheduler(t, dir, func(o order) (int, error) {
			if o.challengeType.name == tlsALPN01 {
				return orderFailsValidation(o)
			}
			return orderRetryAfter(o)
		})
		start := time.Now()
		s.runFor(t, time.Hour)
		if got, want := s.engine.ordersSince(start), minutes(0, 0, 20, 20, 50, 50); !slices.Equal(got, want) {
			t.Errorf("orders at %v, want %v", got, want)
		}
	})
}
