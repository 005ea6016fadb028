package server

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestEveryResponseIsRateLimited checks responses of the layers in front of pages and
// mailboxes.
func TestEveryResponseIsRateLimited(t *testing.T) {
	srv := newDomainServer(t, "-rate", "1", "-burst", "2")
	for i, row := range []struct {
		name    string
		handler http.Handler
		request string
		status  int
	}{
		{"another host", srv.main.server.Handler, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", 421},
		{"another host on port 80", srv.redirect.server.Handler, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", 421},
		{"redirect to HTTPS", srv.redirect.server.Handler, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", 308},
		{"an unknown token", srv.redirect.server.Handler, "GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: a.example\r\n\r\n", 404},
		{"a large header", srv.main.server.Handler, "GET / HTTP/1.1\r\nHost: a.example\r\nX: " + strings.Repeat("x", 17<<10) + "\r\n\r\n", 431},
		{"health check from another address", srv.main.server.Handler, "GET /healthz HTTP/1.1\r\nHost: a.example\r\n\r\n", 200},
		{"an unknown method", srv.main.server.Handler, "BREW /inbox HTTP/1.1\r\nHost: a.example\r\n\r\n", 405},
	} {
		for _, want := range []int{row.status, row.status, 429} {
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(row.request)))
			if err != nil {
				t.Fatal(err)
			}
			r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", i)
			w := httptest.NewRecorder()
			row.handler.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s: got %d, want %d", row.name, w.Code, want)
			}
		}
	}
}
