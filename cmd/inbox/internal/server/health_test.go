package server

import (
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"inbox/cmd/inbox/internal/conn"
	"inbox/ratelimit"
)

// TestReadyRequiresEveryCheck checks that the server is ready only while it serves and all
// checks succeed.
func TestReadyRequiresEveryCheck(t *testing.T) {
	var h health
	var ok atomic.Bool
	status := func() int {
		w := httptest.NewRecorder()
		h.readyz(w, httptest.NewRequest("GET", "/readyz", nil))
		if strings.Contains(w.Body.String(), "store") {
			t.Errorf("the response names a failed check: %q", w.Body)
		}
		return w.Code
	}
	h.addCheck("store", ok.Load)
	for _, row := range []struct {
		serving, ok bool
		want        int
		failing     string
	}{
		{false, true, 503, "listeners"}, {true, false, 503, "store"}, {true, true, 200, ""}, {false, false, 503, "listeners store"},
	} {
		h.serving.Store(row.serving)
		ok.Store(row.ok)
		if got, failing := status(), strings.Join(h.failing(), " "); got != row.want || failing != row.failing {
			t.Errorf("%+v: got %d, failing %q", row, got, failing)
		}
	}
}

// TestNotReadyWhileStopping checks that the server reports not ready before it closes its
// listeners, and still answers requests.
func TestNotReadyWhileStopping(t *testing.T) {
	srv := newTestServer(t)
	srv.health.serving.Store(true)
	during := make(chan []string, 1)
	srv.main.server.RegisterOnShutdown(func() { during <- srv.health.failing() })
	srv.stop()
	if failing := <-during; len(failing) != 1 || failing[0] != "listeners" {
		t.Errorf("during shutdown, failing checks are %q, want listeners", failing)
	}
	for path, want := range map[string]int{"/readyz": 503, "/healthz": 200} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", path, nil)
		r.RemoteAddr = "127.0.0.1:1"
		if srv.main.server.Handler.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s: got %d, want %d", path, w.Code, want)
		}
	}
}

// TestLoopbackHealthChecksAreExempt checks that health checks from loopback are exempt from
// rate limits, and that those from other addresses are not.
func TestLoopbackHealthChecksAreExempt(t *testing.T) {
	for _, path := range []string{"/healthz", "/readyz"} {
		r := httptest.NewRequest("GET", path, nil)
		exempt := exemptHealthChecks(conn.NewClientResolver(&ratelimit.ClientIP{}, []byte("one")))
		for remote, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "192.0.2.1:1": false} {
			if r.RemoteAddr = remote; exempt(r) != want {
				t.Errorf("%s from %s: exempt is %v, want %v", path, remote, !want, want)
			}
		}
	}
}
