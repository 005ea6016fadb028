package ratelimit

import (
	"net/http"
	"testing"
	"testing/synctest"
)

func TestPollLimiterLimitsPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		limiter := &PollLimiter{Max: 2, Addr: new(ClientIP).Addr, IsPoll: func(r *http.Request) bool { return r.URL.Path == "/inbox" }}
		h := limiter.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/inbox" {
				<-release
			}
		}))
		for _, peer := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2"} {
			go get(h, "/inbox", peer)
		}
		synctest.Wait()
		if w := get(h, "/inbox", "192.0.2.1"); w.Code != 429 || w.Header().Get("RateLimit-Policy") != `"polls";q=2` {
			t.Errorf("the third: got %d %v, want 429", w.Code, w.Header())
		}
		limiter.DryRun = true
		go get(h, "/inbox", "192.0.2.1")
		synctest.Wait()
		if limiter.Active() != 4 || limiter.Refused() != 2 {
			t.Errorf("in a dry run: got %d polls and %d refused, want 4 and 2", limiter.Active(), limiter.Refused())
		}
		if w := get(h, "/", "192.0.2.1"); w.Code != 200 {
			t.Errorf("another request: got %d", w.Code)
		}
		close(release)
		synctest.Wait()
		if w := get(h, "/inbox", "192.0.2.1"); w.Code != 200 || limiter.Active() != 0 {
			t.Errorf("after the others ended: got %d with %d polls open", w.Code, limiter.Active())
		}
	})
}
