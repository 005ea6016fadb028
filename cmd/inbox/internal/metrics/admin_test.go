package metrics

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/limits"
	"inbox/cmd/inbox/internal/logging"
	"inbox/inbox"
	"inbox/ratelimit"
)

func TestProfilesAreLoopbackOnly(t *testing.T) {
	all := NewAdminServer(AdminConfig{Sources: emptySources()}).Handler
	for _, path := range []string{"", "heap", "cmdline", "profile?seconds=1", "trace?seconds=1"} {
		r := httptest.NewRequest("GET", "http://192.0.2.2/debug/pprof/"+path, nil)
		w := httptest.NewRecorder()
		if all.ServeHTTP(w, r); w.Code != http.StatusForbidden {
			t.Errorf("/debug/pprof/%s from another address: got %d, want 403", path, w.Code)
		}
	}
	r, _ := http.NewRequest("GET", "/debug/pprof/", nil)
	for remote, want := range map[string]int{"127.0.0.1:1": 0, "[::1]:1": 0, "192.0.2.1:1": 403, "": 403} {
		w := httptest.NewRecorder()
		r.RemoteAddr = remote
		passed := false
		loopbackOnly(func(http.ResponseWriter, *http.Request) { passed = true })(w, r)
		if passed != (want == 0) {
			t.Errorf("%q: passed: %v, want %v", remote, passed, want == 0)
		}
	}
}

// TestDetailedHealth checks that the metrics listener names the failed checks.
func TestDetailedHealth(t *testing.T) {
	var ready bool
	c := &AdminConfig{Sources: Sources{Version: "v1", Failing: func() []string {
		if ready {
			return []string{}
		}
		return []string{"store"}
	}}}
	for want, body := range map[int]string{503: `"Ready":false,"Failing":["store"],`, 200: `"Ready":true,"Failing":[],`} {
		ready = want == http.StatusOK
		w := httptest.NewRecorder()
		if c.serveHealth(w, nil); w.Code != want || !strings.Contains(w.Body.String(), body) {
			t.Errorf("got %d %s, want %d with %s", w.Code, w.Body, want, body)
		}
	}
}

// emptySources returns sources of a server that has served nothing.
func emptySources() Sources {
	clientIP := &ratelimit.ClientIP{}
	return Sources{
		Failing:    func() []string { return nil },
		Mailboxes:  func() (s inbox.Stats) { return },
		Deliveries: func() (d inbox.Deliveries) { return },
		Refusals:   func() map[string]int64 { return nil },
		Errors:     logging.NewErrorLog(slog.New(slog.DiscardHandler)),
		Limits:     limits.New(limits.Config{}, clientIP, conn.NewClientResolver(clientIP, nil)),
	}
}
