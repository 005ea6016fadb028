package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"inbox/ratelimit"
)

func TestHealthSaysOkAndNothingMore(t *testing.T) {
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

// A server that was built and does not serve yet is alive, not ready; and a part
// that is away takes readiness until it is back.
func TestReadyNeedsEveryPart(t *testing.T) {
	var s health
	var here atomic.Bool
	status := func() int {
		w := httptest.NewRecorder()
		s.readyz(w, httptest.NewRequest("GET", "/readyz", nil))
		if strings.Contains(w.Body.String(), "store") {
			t.Errorf("the answer names a part: %q", w.Body)
		}
		return w.Code
	}
	s.need("store", here.Load)
	for _, row := range []struct {
		serving, here bool
		want          int
		away          string
	}{
		{false, true, 503, "listeners"}, {true, false, 503, "store"}, {true, true, 200, ""}, {false, false, 503, "listeners store"},
	} {
		s.serving.Store(row.serving)
		here.Store(row.here)
		if got, away := status(), strings.Join(s.away(), " "); got != row.want || away != row.away {
			t.Errorf("%+v: got %d, away %q", row, got, away)
		}
	}
}

// Readiness goes before the listeners do, while requests are still answered.
func TestNotReadyWhileStopping(t *testing.T) {
	c, err := parse([]string{"-https=false"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := buildShut(c, process{environ: []string{"HOME=" + t.TempDir()}, stderr: io.Discard, times: defaultTimes()})
	if err != nil {
		t.Fatal(err)
	}
	h.health.serving.Store(true)
	during := make(chan []string, 1)
	h.server.RegisterOnShutdown(func() { during <- h.health.away() })
	h.stop()
	if away := <-during; len(away) != 1 || away[0] != "listeners" {
		t.Errorf("when the listeners close, %q is away, want the listeners", away)
	}
	for path, want := range map[string]int{"/readyz": 503, "/healthz": 200} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", path, nil)
		r.RemoteAddr = "127.0.0.1:1"
		if h.server.Handler.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s: got %d, want %d", path, w.Code, want)
		}
	}
}

// The operator is told which part is away, on the metrics listener alone.
func TestDetailedHealth(t *testing.T) {
	h := &house{}
	h.health.serving.Store(true)
	var here atomic.Bool
	h.health.need("store", here.Load)
	for want, body := range map[int]string{503: `"Ready":false,"Away":["store"],`, 200: `"Ready":true,"Away":[],`} {
		here.Store(want == http.StatusOK)
		w := httptest.NewRecorder()
		if h.serveHealth(w, nil); w.Code != want || !strings.Contains(w.Body.String(), body) {
			t.Errorf("got %d %s, want %d with %s", w.Code, w.Body, want, body)
		}
	}
}

// A monitor on this machine sees the server while its address is refused, and
// under whatever name; a stranger pays for its look.
func TestHealthFromHereCostsNothing(t *testing.T) {
	p := start(t, "-https=false", "-rate", "1", "-burst", "1")
	for p.ask("GET", "/ice", "", "").status != http.StatusTooManyRequests {
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		p.want(http.StatusOK, "GET", path, "", "")
		r := httptest.NewRequest("GET", path, nil)
		free := freeRequest(newWho(&ratelimit.ClientIP{}, []byte("one")))
		for remote, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "192.0.2.1:1": false} {
			if r.RemoteAddr = remote; free(r) != want {
				t.Errorf("%s from %s: free is %v, want %v", path, remote, !want, want)
			}
		}
	}
}
