package inbox_test

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"inbox/inbox"
)

// TestMalformedBodies checks that a malformed body is a bad request, and logs
// nothing.
func TestMalformedBodies(t *testing.T) {
	var log bytes.Buffer
	s := newRig(t, func(c *inbox.Config, _ *inbox.Limits) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	s.do("bob", "GET", "/inbox?wait=0", "")
	server := httptest.NewServer(s)
	defer server.Close()
	for _, row := range []struct{ name, chunks string }{
		{"no size", "zz\r\n\r\n"},
		{"a signed size", "-1\r\n\r\n"},
		{"an overflowing size", "10000000000000000\r\n\r\n"},
		{"a chunk without end", "1\r\nxy\r\n0\r\n\r\n"},
		{"a long extension", "1;" + strings.Repeat("x", 10000) + "\r\nx\r\n0\r\n\r\n"},
		{"a long trailer", "1\r\nx\r\n0\r\nX-T: " + strings.Repeat("x", 10000) + "\r\n\r\n"},
	} {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		r := request("alice", "POST", "/inbox?to=bob", "")
		io.WriteString(c, "POST /inbox?to=bob HTTP/1.1\r\nHost: x\r\nAuthorization: "+r.Header.Get("Authorization")+
			"\r\nTransfer-Encoding: chunked\r\n\r\n"+row.chunks)
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		if answer.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: got %d, want 400", row.name, answer.StatusCode)
		}
		answer.Body.Close()
		c.Close()
	}
	if log.Len() > 0 {
		t.Errorf("got log %s, want none", &log)
	}
}

// TestTrailersAreDropped checks that a send does not keep trailers, because it can wait.
func TestTrailersAreDropped(t *testing.T) {
	s := newRig(t, nil)
	r := request("alice", "POST", "/inbox?to=nobody", "hello")
	r.ContentLength, r.Trailer = -1, http.Header{"X": {"y"}}
	s.ServeHTTP(httptest.NewRecorder(), r)
	if r.Trailer != nil {
		t.Errorf("got trailers %v, want none", r.Trailer)
	}
}
