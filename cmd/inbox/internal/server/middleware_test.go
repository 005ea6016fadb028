package server

import (
	"bufio"
	"encoding/json"
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

// TestRefusalsAreProblemDocuments checks that refusals before the mailbox handler are problem
// documents, and are counted.
func TestRefusalsAreProblemDocuments(t *testing.T) {
	srv := newDomainServer(t, "-rate", "1", "-burst", "1", "-metrics-bind", "127.0.0.1:0")
	for i, row := range []struct {
		name    string
		handler http.Handler
		host, x string
		status  int
		kind    string
	}{
		{"another host", srv.main.server.Handler, "other.example", "", 421, "misdirected-request"},
		{"another host on port 80", srv.redirect.server.Handler, "other.example", "", 421, "misdirected-request"},
		{"a large header", srv.main.server.Handler, "a.example", strings.Repeat("x", 17<<10), 431, "header-too-large"},
		{"too many requests", srv.main.server.Handler, "a.example", "", 429, "rate-limited"},
	} {
		r := httptest.NewRequest("GET", "/inbox", nil)
		r.Host, r.RemoteAddr = row.host, fmt.Sprintf("192.0.2.%d:1", i)
		r.Header.Set("X", row.x)
		if row.status == http.StatusTooManyRequests {
			row.handler.ServeHTTP(httptest.NewRecorder(), r)
		}
		w := httptest.NewRecorder()
		row.handler.ServeHTTP(w, r)
		var p struct {
			Type, Title, Detail string
			Status              int
		}
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Errorf("%s: got %q: %v", row.name, w.Body, err)
		}
		if w.Code != row.status || p.Status != row.status || p.Type != "urn:inbox:problem:"+row.kind || p.Title == "" || p.Detail == "" ||
			w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got %d %+v with %v", row.name, w.Code, p, w.Header())
		}
	}
	if got := srv.metricsSources().Refusals()["misdirected-request"]; got != 2 {
		t.Errorf("got %d misdirected requests counted, want 2", got)
	}
	if got := srv.limits.Refused(); got["header"] != 1 || got["requests"] != 1 {
		t.Errorf("got %v counted, want one large header and one request over the rate", got)
	}
}
