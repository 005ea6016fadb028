package ratelimit

import (
	"net/http"
	"testing"
	"testing/synctest"
)

// TestConcurrencyLimiter checks the limit of an address, with a share of a total and without.
func TestConcurrencyLimiter(t *testing.T) {
	for _, row := range []struct {
		name   string
		limits ShareLimits
		quota  string
		fits   int // requests of one address
		dryRun bool
	}{
		{"polls", ShareLimits{MaxPerClient: 2}, "2", 2, false},
		{"files", ShareLimits{Ceiling: 100}, "1", 20, false},
		{"polls", ShareLimits{MaxPerClient: 2, DryRun: true}, "2", 2, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			limiter := &ConcurrencyLimiter{
				Limit: row.name, Share: NewShare(row.limits), Addr: new(ClientIP).Addr,
			}
			h := limiter.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
			for range row.fits {
				go get(h, "/inbox", "192.0.2.1")
			}
			synctest.Wait()
			go get(h, "/inbox", "198.51.100.1")
			synctest.Wait()
			if row.dryRun {
				go get(h, "/inbox", "192.0.2.1")
			} else if w := get(h, "/inbox", "192.0.2.1"); w.Code != 429 || w.Header().Get("RateLimit-Policy") != `"`+row.name+`";q=`+row.quota {
				t.Errorf("%s: one more: got %d %v, want 429", row.name, w.Code, w.Header())
			}
			synctest.Wait()
			used := int64(row.fits + 1)
			if row.dryRun {
				used++
			}
			if limiter.Share.Used() != used || limiter.Share.Refused() != 1 {
				t.Errorf("%s: got %d requests and %d refused, want %d and 1", row.name, limiter.Share.Used(), limiter.Share.Refused(), used)
			}
			close(release)
			synctest.Wait()
			if w := get(h, "/inbox", "192.0.2.1"); w.Code != 200 || limiter.Share.Used() != 0 {
				t.Errorf("%s: after the others ended: got %d with %d in progress", row.name, w.Code, limiter.Share.Used())
			}
		})
	}
}
