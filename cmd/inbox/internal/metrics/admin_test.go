package metrics

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

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
		newAdmin(AdminConfig{}).localOnly(func(http.ResponseWriter, *http.Request) { passed = true })(w, r)
		if passed != (want == 0) {
			t.Errorf("%q: passed: %v, want %v", remote, passed, want == 0)
		}
	}
}

// TestDetailedHealth checks that the metrics listener names the failed checks.
func TestDetailedHealth(t *testing.T) {
	var ready bool
	c := newAdmin(AdminConfig{Sources: Sources{Version: "v1", Failing: func() []string {
		if ready {
			return []string{}
		}
		return []string{"store"}
	}}})
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
		Failing:   func() []string { return nil },
		Mailboxes: func() (s inbox.Stats) { return },
		Claims:    func() int64 { return 0 },
		Receivers: func() []inbox.ReceiverStats { return nil },
		Refusals:  func() map[string]int64 { return nil },
		Errors:    logging.NewErrorLog(slog.New(slog.DiscardHandler)),
		Limits:    limits.New(limits.Config{}, clientIP, conn.NewClientResolver(clientIP, nil)),
	}
}

// TestProfilesAreBounded checks the limits of duration and number of profiles.
func TestProfilesAreBounded(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	a := newAdmin(AdminConfig{})
	handler := a.serveProfile
	get := func(query string) int {
		w := httptest.NewRecorder()
		handler(w, httptest.NewRequest("GET", "/debug/pprof/profile?"+query, nil))
		return w.Code
	}
	for _, query := range []string{"seconds=61", "seconds=-1", "seconds=1e9", "seconds=NaN", "seconds=Inf", "seconds=x", "seconds=",
		"seconds=1&seconds=999999", "seconds=99999999999999999999"} {
		if code := get(query); code != http.StatusBadRequest {
			t.Errorf("%s: got %d, want 400", query, code)
		}
	}
	handler = a.bound(maxProfiles, func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-release })
	done := make(chan int)
	for range maxProfiles {
		go func() { done <- get("seconds=60") }()
		<-entered
	}
	if code := get(""); code != http.StatusServiceUnavailable {
		t.Errorf("one profile more: got %d, want 503", code)
	}
	close(release)
	for range maxProfiles {
		if code := <-done; code != http.StatusOK {
			t.Errorf("got %d, want 200", code)
		}
	}
}

// TestAdminServerHasTimeouts checks that each phase of a connection is bounded, and that a
// profile that takes longer than the write timeout is complete.
func TestAdminServerHasTimeouts(t *testing.T) {
	s := NewAdminServer(AdminConfig{Sources: emptySources(), HeaderTimeout: time.Second, WriteTimeout: time.Second, IdleTimeout: time.Second})
	if s.ReadHeaderTimeout == 0 || s.ReadTimeout == 0 || s.WriteTimeout == 0 || s.IdleTimeout == 0 || s.MaxHeaderBytes == 0 {
		t.Errorf("a limit is missing: %+v", s)
	}
	server := httptest.NewUnstartedServer(s.Handler)
	server.Config = s
	server.Start()
	defer server.Close()
	resp, err := http.Get(server.URL + "/debug/pprof/trace?seconds=1.5")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || len(text) == 0 {
		t.Errorf("got %d, %d bytes, %v; want a complete trace", resp.StatusCode, len(text), err)
	}
}

// TestAdminRefusals checks that refusals are problem documents and counted.
func TestAdminRefusals(t *testing.T) {
	h := NewAdminServer(AdminConfig{Sources: emptySources()}).Handler
	get := func(method, target, from string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest(method, target, nil), httptest.NewRecorder()
		r.RemoteAddr = from
		h.ServeHTTP(w, r)
		return w
	}
	const local, remote = "127.0.0.1:1", "192.0.2.1:1"
	for _, row := range []struct {
		method, target, from string
		status               int
		kind                 string
	}{
		{"GET", "http://evil.example/metrics", local, 421, "misdirected-request"},
		{"GET", "http://localhost/nothing", local, 404, "not-found"},
		{"GET", "http://localhost/metrics/", local, 404, "not-found"},
		{"POST", "http://localhost/metrics", local, 405, "method-not-allowed"},
		{"DELETE", "http://localhost/", local, 405, "method-not-allowed"},
		{"GET", "http://localhost/debug/pprof/heap", remote, 403, "local-only"},
		{"GET", "http://localhost/debug/pprof/profile?seconds=x", local, 400, "bad-request"},
	} {
		w := get(row.method, row.target, row.from)
		var p struct {
			Type   string
			Status int
		}
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != row.status || p.Status != row.status || p.Type != "urn:inbox:problem:"+row.kind {
			t.Errorf("%s %s: got %d %s, want %d and the problem %s", row.method, row.target, w.Code, w.Body, row.status, row.kind)
		}
	}
	text := get("GET", "http://localhost/metrics", remote).Body.String()
	for kind, n := range map[string]int{"misdirected-request": 1, "not-found": 2, "method-not-allowed": 2, "local-only": 1, "bad-request": 1, "busy": 0} {
		if want := fmt.Sprintf("\ninbox_metrics_refused_total{problem=%q} %d\n", kind, n); !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}
