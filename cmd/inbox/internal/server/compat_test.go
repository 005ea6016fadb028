package server

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestCompatRoutes has requests of PeerJS clients pass through all layers of the server. Their keys,
// ids and tokens are not logged, and without the option the paths are those of pages.
func TestCompatRoutes(t *testing.T) {
	for _, row := range []struct {
		flags, path string
		header      [2]string
		status      int
		origin      string // Access-Control-Allow-Origin
		route       string
	}{
		{"-compat=peerjs", "/secretkey/id?ts=1", [2]string{"Origin", "https://a.example"}, 200, "*", "/KEY/id"},
		{"-compat=peerjs", "/peerjs/secretkey/peers", [2]string{"Origin", "https://a.example"}, 401, "*", "/KEY/peers"},
		{"-compat=peerjs", "/peerjs/", [2]string{"Origin", "https://a.example"}, 200, "*", "/peerjs/"},
		{"-compat=peerjs", "/peerjs?key=secretkey&id=secretid&token=secrettoken", [2]string{"Origin", "https://a.example"}, 404, "*", "/peerjs"},
		{"-compat=peerjs", "/peerjs?key=secretkey&id=secretid&token=secrettoken", [2]string{"Upgrade", "websocket"}, 400, "*", "/peerjs"},
		{"-compat=peerjs -cors-origins=https://b.example", "/secretkey/id", [2]string{"Origin", "https://a.example"}, 200, "", "/KEY/id"},
		{"-compat=peerjs -cors-origins=https://b.example", "/secretkey/id", [2]string{"Origin", "https://b.example"}, 200, "https://b.example", "/KEY/id"},
		{"-compat=peerjs", "/inbox", [2]string{"Origin", "https://a.example"}, 403, "", "/inbox"},
		{"-compat=peerjs", "/", [2]string{"Origin", "https://a.example"}, 200, "", "pages"},
		{"-compat=", "/secretkey/id", [2]string{"Origin", "https://a.example"}, 404, "", "pages"},
	} {
		var log bytes.Buffer
		p := testProcess()
		p.Stderr = &log
		s := build(t, p, resolve(t, append(strings.Fields(row.flags), "-https=false", "-log-level=debug")...), nil)
		r := httptest.NewRequest(http.MethodGet, row.path, nil)
		r.Header.Set(row.header[0], row.header[1])
		w := httptest.NewRecorder()
		s.main.server.Handler.ServeHTTP(w, r)
		if w.Code != row.status || w.Header().Get("Access-Control-Allow-Origin") != row.origin {
			t.Errorf("%s %s: got %d with %v", row.flags, row.path, w.Code, w.Header())
		}
		if text := log.String(); strings.Contains(text, "secret") || !strings.Contains(text, "route="+row.route+" ") {
			t.Errorf("%s %s: got log\n%s", row.flags, row.path, text)
		}
	}
}
