package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"inbox/cmd/inbox/internal/conn"
	"inbox/ratelimit"
)

func TestHealthResponse(t *testing.T) {
	p := start(t, "-https=false")
	for _, path := range []string{"/healthz", "/readyz"} {
		if a := p.want(http.StatusOK, "GET", path, "", ""); a.body != "ok\n" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got %q, %v", path, a.body, a.header)
		}
		p.want(http.StatusOK, "HEAD", path, "", "")
		if a := p.want(http.StatusMethodNotAllowed, "POST", path, "", ""); a.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: Allow is %q", path, a.header.Get("Allow"))
		}
	}
}

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
	c, err := parse([]string{"-https=false"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := newServerWithoutListeners(c, process{environ: []string{"HOME=" + t.TempDir()}, stderr: io.Discard, timeouts: defaultTimeouts()})
	if err != nil {
		t.Fatal(err)
	}
	srv.health.serving.Store(true)
	during := make(chan []string, 1)
	srv.mainServer.RegisterOnShutdown(func() { during <- srv.health.failing() })
	srv.stop()
	if failing := <-during; len(failing) != 1 || failing[0] != "listeners" {
		t.Errorf("during shutdown, failing checks are %q, want listeners", failing)
	}
	for path, want := range map[string]int{"/readyz": 503, "/healthz": 200} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", path, nil)
		r.RemoteAddr = "127.0.0.1:1"
		if srv.mainServer.Handler.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s: got %d, want %d", path, w.Code, want)
		}
	}
}

// TestLoopbackHealthChecksAreExempt checks that health checks from loopback are exempt from
// rate limits, and that those from other addresses are not.
func TestLoopbackHealthChecksAreExempt(t *testing.T) {
	p := start(t, "-https=false", "-rate", "1", "-burst", "1")
	for p.request("GET", "/ice", "", "").status != http.StatusTooManyRequests {
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		p.want(http.StatusOK, "GET", path, "", "")
		r := httptest.NewRequest("GET", path, nil)
		exempt := exemptHealthChecks(conn.NewClientResolver(&ratelimit.ClientIP{}, []byte("one")))
		for remote, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "192.0.2.1:1": false} {
			if r.RemoteAddr = remote; exempt(r) != want {
				t.Errorf("%s from %s: exempt is %v, want %v", path, remote, !want, want)
			}
		}
	}
}
