package tlsmgr

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A first order is tried out once. What fails there is not ordered in earnest;
// where that place cannot be reached, the order is made without; and a name that
// has a certificate needs no trial.
func TestStagingOrder(t *testing.T) {
	refusedAt := func(caURL string) func(order) (int, error) {
		return func(o order) (int, error) {
			if o.ca.url == caURL {
				return orderRefused(o)
			}
			return 0, nil
		}
	}
	for _, tt := range []struct {
		why    string
		answer func(order) (int, error)
		away   bool // the place for trials
		held   bool // a certificate that has ended
		places []string
	}{
		{"both give", refusedAt("nowhere"), false, false, []string{"trial", "first"}},
		{"the trial fails", refusedAt("trial"), false, false, []string{"trial", "trial"}},
		{"the authority refuses", refusedAt("first"), false, false, []string{"trial", "first", "first"}},
		{"the trial is away", refusedAt("nowhere"), true, false, []string{"first"}},
		{"at a renewal", refusedAt("nowhere"), false, true, []string{"first"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := newTestScheduler(t, dir, tt.answer)
				s.settings.ACME.StagingFirst, s.settings.stagingCA = true, &caClient{url: "trial", storageKey: "trial"}
				if tt.away {
					s.engine.readyErrs = map[string]error{"trial": errors.New("connection refused")}
				}
				if tt.held {
					ended := tlsPair(t, testName, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
					s.engine.certs[testName] = &stored{ended, s.settings.cas[0]}
				}
				s.runFor(t, 20*time.Minute)
				if got := s.engine.orderCAs; !slices.Equal(got, tt.places) {
					t.Errorf("ordered at %v, want %v", got, tt.places)
				}
			})
		})
	}
}
