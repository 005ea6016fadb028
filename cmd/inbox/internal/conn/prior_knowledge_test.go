package conn

//lint:file-ignore SA1019 see http2.go

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inbox/internal/problem"

	"golang.org/x/net/http2"
)

// newHTTP1Server serves "ok" over HTTP/1.1 and refuses HTTP/2, on connections as the server
// wraps them.
func newHTTP1Server(t *testing.T, refuser *HTTP2Refuser) *httptest.Server {
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	s := httptest.NewUnstartedServer(refuser.Handler(ok))
	s.Listener = LazyListener(s.Listener, &WriteLimit{}, nil)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// TestPriorKnowledgeIsRefusedReadably checks that a client of HTTP/2 without TLS gets a
// response that it understands, also when it sends a body.
func TestPriorKnowledgeIsRefusedReadably(t *testing.T) {
	var refuser HTTP2Refuser
	s := newHTTP1Server(t, &refuser)
	transport := &http2.Transport{AllowHTTP: true}
	transport.DialTLSContext = dialPlain
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	for _, body := range []string{"", "hello", strings.Repeat("x", 40<<10)} {
		r, _ := http.NewRequest("POST", s.URL+"/inbox?to=bob", strings.NewReader(body))
		resp, err := client.Do(r)
		if err != nil {
			t.Fatalf("body of %d bytes: %v", len(body), err)
		}
		var p problem.Problem
		err = json.NewDecoder(resp.Body).Decode(&p)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 505 || p.Type != "urn:inbox:problem:http-version" || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("body of %d bytes: got %s %+v, %v; want 505 http-version", len(body), resp.Status, p, err)
		}
	}
	if got := refuser.Refused(); got != 3 {
		t.Errorf("got %d refused, want 3", got)
	}
	resp, err := http.Get(s.URL)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("HTTP/1.1: got %v, %v, want 200", resp, err)
	}
	resp.Body.Close()
}

func dialPlain(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// TestMalformedPriorKnowledge checks that the connection ends, whatever follows the first
// line, and that the client can end it early.
func TestMalformedPriorKnowledge(t *testing.T) {
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for name, rest := range map[string]string{
		"nothing":             "",
		"another preface":     "XX\r\n\r\n",
		"preface only":        "SM\r\n\r\n",
		"no request":          "SM\r\n\r\n" + settings,
		"many settings":       "SM\r\n\r\n" + strings.Repeat(settings, 100),
		"a large frame":       "SM\r\n\r\n" + "\xff\xff\xff\x01\x05\x00\x00\x00\x01",
		"data before headers": "SM\r\n\r\n" + settings + "\x00\x00\x01\x00\x00\x00\x00\x00\x01x",
		"stream 0":            "SM\r\n\r\n" + settings + "\x00\x00\x00\x01\x05\x00\x00\x00\x00",
	} {
		var refuser HTTP2Refuser
		s := newHTTP1Server(t, &refuser)
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, "PRI * HTTP/2.0\r\n\r\n"+rest)
		c.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(c)
		c.Close()
		if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
			t.Errorf("%s: the connection is still open", name)
		}
		if strings.HasPrefix(string(got), "HTTP/1.1") {
			t.Errorf("%s: got %q, want no HTTP/1.1", name, got)
		}
		if refuser.Refused() != 1 {
			t.Errorf("%s: got %d refused, want 1", name, refuser.Refused())
		}
	}
}
