package tlsmgr

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func patientOrder(order) (int, error) {
	return 0, &orderError{retryAfter: 20 * time.Minute, err: errors.New("429")}
}

// at are the times of the orders at one authority, from a start.
func (e *scripted) at(place string, start time.Time) (all []time.Duration) {
	for i, at := range e.since(start) {
		if e.places[i] == place {
			all = append(all, at)
		}
	}
	return all
}

// Of two authorities each is left in peace for as long as it asked, over restarts
// and while the other has no time, and no longer because of the other.
func TestEachAuthoritysPatienceIsItsOwn(t *testing.T) {
	for _, busy := range []string{"first", "second"} {
		t.Run(busy, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var asked, others []time.Duration
				for range 5 { // lives
					s := newSupervised(t, dir, func(o order) (int, error) {
						if o.ca.url == busy {
							return patientOrder(o)
						}
						return unreachable(o)
					})
					s.settings.cas = append(s.settings.cas, &caClient{url: "second"})
					s.schedules = newScheduleStore(dirStorage{dir, s.settings.Logger}, s.settings)
					s.runFor(t, 9*time.Minute)
					asked = append(asked, s.engine.at(busy, start)...)
					others = append(others, s.engine.at(map[string]string{"first": "second", "second": "first"}[busy], start)...)
				}
				if len(asked) != 3 || slices.ContainsFunc([]int{1, 2}, func(i int) bool { return asked[i]-asked[i-1] < 20*time.Minute }) {
					t.Errorf("the busy authority was asked at %v, want three times, 20 minutes apart", asked)
				}
				if len(others) < 10 || others[1] > 10*time.Second {
					t.Errorf("the other authority was asked at %v, want soon and often", others)
				}
			})
		})
	}
}

// A certificate of the second authority does not make the first one's patience end.
func TestPatienceOutlivesSuccess(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSupervised(t, dir, func(o order) (int, error) {
			if o.ca.url == "first" {
				return patientOrder(o)
			}
			return 0, nil
		})
		s.settings.cas = append(s.settings.cas, &caClient{url: "second", storageKey: "second"})
		s.engine.life = 6 * time.Minute
		start := time.Now()
		s.runFor(t, 19*time.Minute)
		if first, second := s.engine.at("first", start), s.engine.at("second", start); len(first) != 1 || len(second) < 3 {
			t.Errorf("the first authority was asked at %v, the second at %v; want once, and at each renewal", first, second)
		}
	})
}

// Where one challenge fails, another that cannot be tried does not bring the next
// order forward.
func TestAWayThatCannotBeTriedHastensNothing(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSupervised(t, dir, func(o order) (int, error) {
			if o.challengeType.name == tlsALPN01 {
				return unproved(o)
			}
			return patientOrder(o)
		})
		start := time.Now()
		s.runFor(t, time.Hour)
		if got, want := s.engine.since(start), minutes(0, 0, 20, 20, 50, 50); !slices.Equal(got, want) {
			t.Errorf("orders at %v, want %v", got, want)
		}
	})
}
