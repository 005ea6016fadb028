package tlsmgr

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// An authority is asked when to renew as often as it says, but neither each
// moment nor never again.
func TestARIPolling(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name        string
		life, after time.Duration // until it wants to be asked again; zero: it does not say
		run         time.Duration
		least, most int
	}{
		{"it does not say", 90 * day, 0, 3 * day, 3, 4},
		{"each hour", 90 * day, time.Hour, day, 20, 25}, // the looks are ten minutes apart
		{"in a year", 90 * day, 365 * day, 3 * day, 3, 4},
		{"each second", 30 * time.Minute, time.Second, 15 * time.Minute, 10, 16},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s, ariRequests := newTestScheduler(t, dir, orderSucceeds), 0
				s.engine.lifetime = tt.life
				s.engine.ariResponse = func(cert *stored) (renewalInfo, error) {
					ariRequests++
					r := renewalInfo{Serial: serial(cert.Leaf)}
					if tt.after > 0 {
						r.RefreshAfter = time.Now().Add(tt.after)
					}
					return r, nil
				}
				s.runFor(t, tt.run)
				if ariRequests < tt.least || ariRequests > tt.most {
					t.Errorf("asked %d times in %v, want %d to %d", ariRequests, tt.run, tt.least, tt.most)
				}
			})
		})
	}
}

// The time that was chosen within the authority's window stays, though each
// answer chooses another, and though later ones do not come.
func TestRenewalTimeIsStable(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		s, ariRequests := newTestScheduler(t, dir, orderSucceeds), 0
		start := time.Now()
		s.engine.ariResponse = func(cert *stored) (renewalInfo, error) {
			if ariRequests++; ariRequests > 5 {
				return renewalInfo{}, errors.New("away")
			}
			return renewalInfo{Serial: serial(cert.Leaf), From: start.Add(30 * day), To: start.Add(40 * day),
				At: start.Add(30*day + time.Duration(ariRequests)*time.Hour), RefreshAfter: time.Now().Add(time.Hour)}, nil
		}
		for range 3 {
			s.runFor(t, 4*time.Hour)
			if got := s.workers[0].getState().renewAt.Sub(start); got != 30*day+time.Hour {
				t.Errorf("after %d questions it is to be renewed after %v, want the time that was chosen first", ariRequests, got)
			}
		}
		if ariRequests < 7 {
			t.Errorf("asked %d times, want more than the answers", ariRequests)
		}
	})
}
