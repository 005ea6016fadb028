package tlsmgr

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The first order for a name is made at the staging CA once. If it fails there, no
// order is made at the production CA. An unavailable staging CA is skipped, and a name
// that has a certificate needs no staging order.
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
		why         string
		onOrder     func(order) (int, error)
		stagingDown bool
		renewal     bool // of an expired certificate
		want        []string
	}{
		{"both succeed", refusedAt("nowhere"), false, false, []string{"staging", "first"}},
		{"staging fails", refusedAt("staging"), false, false, []string{"staging", "staging"}},
		{"production rejects", refusedAt("first"), false, false, []string{"staging", "first", "first"}},
		{"staging unavailable", refusedAt("nowhere"), true, false, []string{"first"}},
		{"renewal", refusedAt("nowhere"), false, true, []string{"first"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := newTestScheduler(t, dir, tt.onOrder)
				s.settings.ACME.StagingFirst, s.settings.stagingCA = true, &caClient{url: "staging", storageKey: "staging"}
				if tt.stagingDown {
					s.engine.readyErrs = map[string]error{"staging": errors.New("connection refused")}
				}
				if tt.renewal {
					expired := tlsPair(t, testName, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
					s.engine.certs[testName] = &stored{expired, s.settings.cas[0]}
				}
				s.runFor(t, 20*time.Minute)
				if got := s.engine.orderCAs; !slices.Equal(got, tt.want) {
					t.Errorf("got orders at %v, want %v", got, tt.want)
				}
			})
		})
	}
}
