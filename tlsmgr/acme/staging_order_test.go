package acme

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"inbox/tlsmgr/internal/tlstest"
)

// The first order for a name is made at the staging CA once. If it fails there, no
// order is made at the production CA. An unavailable staging CA is skipped, and a name
// that has a certificate needs no staging order.
func TestStagingOrder(t *testing.T) {
	refusedAt := func(caURL string) func(Order) (int, error) {
		return func(o Order) (int, error) {
			if o.CA.URL == caURL {
				return orderRefused(o)
			}
			return 0, nil
		}
	}
	for _, tt := range []struct {
		why         string
		onOrder     func(Order) (int, error)
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
				s.Settings.StagingFirst, s.Settings.StagingCA = true, &CAClient{URL: "staging", StorageKey: "staging"}
				if tt.stagingDown {
					s.engine.readyErrs = map[string]error{"staging": errors.New("connection refused")}
				}
				if tt.renewal {
					expired := tlstest.TLSPair(t, testName, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
					s.engine.certs[testName] = &Certificate{expired, s.Settings.CAs[0]}
				}
				s.runFor(t, 20*time.Minute)
				if got := s.engine.orderCAs; !slices.Equal(got, tt.want) {
					t.Errorf("got orders at %v, want %v", got, tt.want)
				}
			})
		})
	}
}
