package acme

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"inbox/tlsmgr/acme/schedule"
)

// ARI requests follow the CA's Retry-After, within a minimum and a maximum interval.
func TestARIPolling(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name        string
		life, after time.Duration // after: Retry-After of the response; zero if absent
		run         time.Duration
		least, most int
	}{
		{"no Retry-After", 90 * day, 0, 3 * day, 3, 4},
		{"one hour", 90 * day, time.Hour, day, 20, 25}, // checks are ten minutes apart
		{"one year", 90 * day, 365 * day, 3 * day, 3, 4},
		{"one second", 30 * time.Minute, time.Second, 15 * time.Minute, 10, 16},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s, ariRequests := newTestScheduler(t, dir, orderSucceeds), 0
				s.engine.lifetime = tt.life
				s.engine.ariResponse = func(cert *Certificate) (schedule.ARI, error) {
					ariRequests++
					r := schedule.ARI{Serial: cert.Serial()}
					if tt.after > 0 {
						r.RefreshAfter = time.Now().Add(tt.after)
					}
					return r, nil
				}
				s.runFor(t, tt.run)
				if ariRequests < tt.least || ariRequests > tt.most {
					t.Errorf("got %d ARI requests in %v, want %d to %d", ariRequests, tt.run, tt.least, tt.most)
				}
			})
		})
	}
}

// The renewal time selected within the CA's window stays the same although each
// response selects another one, and although later requests fail.
func TestRenewalTimeIsStable(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		s, ariRequests := newTestScheduler(t, dir, orderSucceeds), 0
		start := time.Now()
		s.engine.ariResponse = func(cert *Certificate) (schedule.ARI, error) {
			if ariRequests++; ariRequests > 5 {
				return schedule.ARI{}, errors.New("unavailable")
			}
			return schedule.ARI{Serial: cert.Serial(), From: start.Add(30 * day), To: start.Add(40 * day),
				At: start.Add(30*day + time.Duration(ariRequests)*time.Hour), RefreshAfter: time.Now().Add(time.Hour)}, nil
		}
		for range 3 {
			s.runFor(t, 4*time.Hour)
			if got := s.renewAt().Sub(start); got != 30*day+time.Hour {
				t.Errorf("after %d ARI requests: got renewal after %v, want the time of the first response", ariRequests, got)
			}
		}
		if ariRequests < 7 {
			t.Errorf("got %d ARI requests, want more than the 5 that succeed", ariRequests)
		}
	})
}
