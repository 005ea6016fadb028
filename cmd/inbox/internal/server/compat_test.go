package server

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/metrics"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/prometheus/client_golang/prometheus"
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

// TestPeerJSSecrets has clients of PeerJS connect, be refused, send and leave. Neither the log nor
// a metric has their keys, ids, tokens or frames.
func TestPeerJSSecrets(t *testing.T) {
	var log syncBuffer
	p := testProcess()
	p.Stderr = &log
	s := build(t, p, resolve(t, "-compat=peerjs", "-https=false", "-log-level=debug"), nil)
	server := httptest.NewServer(s.main.server.Handler)
	defer server.Close()
	dial := func(query string) (send func(string), frames <-chan string) {
		t.Helper()
		conn, br, _, err := ws.Dialer{Timeout: 30 * time.Second}.Dial(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http")+"/peerjs?"+query)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		received := make(chan string, 10)
		stream := struct {
			io.Reader
			io.Writer
		}{conn, conn}
		if br != nil {
			stream.Reader = br // with frames that arrived with the handshake
		}
		go func() {
			defer close(received)
			for {
				text, err := wsutil.ReadServerText(stream)
				if err != nil {
					return
				}
				received <- string(text)
			}
		}()
		return func(text string) { _ = wsutil.WriteClientText(conn, []byte(text)) }, received // the frames end with the connection
	}
	send, x := dial("key=secretkey&id=secretid&token=secrettoken")
	if got := <-x; got != `{"type":"OPEN"}` {
		t.Fatalf("got %q", got)
	}
	for query, want := range map[string]string{"key=secretkey&id=secretid&token=secretother": "ID-TAKEN", "key=secretkey&id=secretid": "ERROR"} {
		if _, other := dial(query); !strings.Contains(<-other, want) {
			t.Errorf("%s: got no %s", query, want)
		}
	}
	send("secret junk")
	send(`{"type":"OFFER","dst":"secretid","payload":"secretpayload"}`)
	if got := <-x; !strings.Contains(got, "secretpayload") {
		t.Errorf("got %q", got)
	}
	send(strings.Repeat("secret", 1<<20)) // too large
	<-x                                   // is closed
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewCollector(s.metricsSources()))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if strings.Contains(family.String(), "secret") {
			t.Errorf("got the metric %v", family)
		}
	}
	if text := log.String(); strings.Contains(text, "secret") || !strings.Contains(text, "route=/peerjs ") {
		t.Errorf("got log\n%s", text)
	}
}
