package server

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/metrics"
)

func TestRequestLogStatus(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"client disconnected", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "status=499"},
		{"client disconnected during the response", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "x")
			panic(http.ErrAbortHandler)
		}, "status=499"},
		{"handler panic", func(http.ResponseWriter, *http.Request) { panic("boom") }, "status=500"},
		{"empty response", func(http.ResponseWriter, *http.Request) {}, "status=200"},
		{"three bytes", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "xyz") }, "status=200 dur=[^ ]+ bytes=3"},
		{"a file", func(w http.ResponseWriter, _ *http.Request) { io.Copy(w, strings.NewReader("xyz")) }, "status=200 dur=[^ ]+ bytes=3"},
		{"not found", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, "status=404"},
		{"early hints first", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(404)
		}, "status=404"},
		{"flush", func(w http.ResponseWriter, _ *http.Request) { http.NewResponseController(w).Flush() }, "status=200"},
	} {
		var out bytes.Buffer
		m := metrics.NewMeter(accessLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), fixedAddr("192.0.2.77")))
		func() {
			defer func() { recover() }() // as net/http does
			m.Handler(routes.Of, tt.handler).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}()
		if !matches(tt.want, out.String()) {
			t.Errorf("%s: logged %q, want %s", tt.name, out.String(), tt.want)
		}
	}
}

func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }

func fixedAddr(text string) func(*http.Request) netip.Addr {
	addr, _ := netip.ParseAddr(text)
	return func(*http.Request) netip.Addr { return addr }
}

// TestRequestLogOmitsClientInput checks that a log line has the route and a known
// method, and no text from the client.
func TestRequestLogOmitsClientInput(t *testing.T) {
	for _, tt := range []struct{ method, target, addr, want string }{
		{"GET", "/inbox?wait=secret", "192.0.2.77", "method=GET route=/inbox status=200 dur=DUR bytes=0 addr=192.0.2.0/24"},
		{"PATCH", "/inbox", "2001:db8:1:2::3", "method=PATCH route=/inbox status=200 dur=DUR bytes=0 addr=2001:db8:1::/48"},
		{"SECRET", "/secret", "", "method=other route=pages status=200 dur=DUR bytes=0 addr=unknown"},
	} {
		var out bytes.Buffer
		log := accessLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), fixedAddr(tt.addr))
		r := httptest.NewRequest(tt.method, tt.target, nil)
		log(r, routes.Of(r), http.StatusOK, time.Second, 0)
		if want := strings.Replace(tt.want, "DUR", "1s", 1); !strings.Contains(out.String(), want) || strings.Contains(strings.ToLower(out.String()), "secret") {
			t.Errorf("logged %q, want %q", out.String(), want)
		}
	}
}
