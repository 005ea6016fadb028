package clients

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"inbox/e2e"
)

// TestEveryRefusalCanBeRead checks each layer that refuses a body without reading it. The
// client sends all of the body over a slow link before it reads, as http.client does.
func TestEveryRefusalCanBeRead(t *testing.T) {
	const alice, bob = "alice:rabbit", "bob:builder"
	for _, row := range []struct {
		name    string
		options []string
		request string
		user    string
		fields  []string
		status  int
	}{
		{"no credentials", nil, "POST /inbox?to=bob", "", nil, 401},
		{"unreadable credentials", nil, "POST /inbox?to=bob", "", []string{"Authorization: Basic ?"}, 401},
		{"wrong password", nil, "POST /inbox?to=bob", "alice:wrong", nil, 401},
		{"another site", nil, "POST /inbox?to=bob", alice, []string{"Origin: https://site.example"}, 403},
		{"method", nil, "PUT /inbox", alice, nil, 405},
		{"page", nil, "POST /", "", nil, 405},
		{"too large", nil, "POST /inbox?to=bob", alice, nil, 413},
		{"chunks", nil, "POST /inbox?to=bob", alice, []string{"Transfer-Encoding: chunked"}, 413},
		{"encoded", nil, "POST /inbox?to=bob", alice, []string{"Content-Encoding: gzip"}, 415},
		{"no recipient", nil, "POST /inbox", alice, nil, 400},
		{"rate", []string{"-burst", "2", "-rate", "1"}, "POST /inbox?to=bob", alice, nil, 429},
		// net/http answers a header of too many bytes itself, and does not read on.
		{"header of many fields", nil, "POST /inbox?to=bob", alice, slices.Repeat([]string{"X: y"}, 101), 431},
		{"mailboxes", []string{"-max-inboxes", "1"}, "POST /inbox?to=alice", bob, nil, 503},
		{"quota", []string{"-max-body-size", "10000000", "-max-queued-bytes", "10000001"}, "POST /inbox?to=alice", alice, nil, 429},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			options := append([]string{"-bind", "127.0.0.1:0", "-https=false", "-state", t.TempDir()}, row.options...)
			server, err := e2e.Start(program, options...)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Stop()
			for range 2 { // claims alice, and uses up the burst of "rate"
				if resp, err := exchange(server.Addr, "GET /inbox?wait=0", alice, nil, 0); err != nil || resp.StatusCode != 204 {
					t.Fatalf("claim: got %v, %v, want 204", resp, err)
				}
			}
			link, err := listenSlowLink(server.Addr)
			if err != nil {
				t.Fatal(err)
			}
			defer link.Close()
			resp, err := exchange(link.Addr().String(), row.request, row.user, row.fields, largeBytes)
			if err != nil || resp.StatusCode != row.status {
				t.Errorf("got %v, %v, want %d", resp, err, row.status)
			}
		})
	}
}

// exchange sends a request with a body of that size, and then reads the response.
func exchange(addr, request, user string, fields []string, size int) (*http.Response, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(clientTimeout))
	header := request + " HTTP/1.1\r\nHost: " + addr + "\r\n"
	if user != "" {
		header += "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user)) + "\r\n"
	}
	chunked := false
	for _, field := range fields {
		header += field + "\r\n"
		chunked = chunked || strings.HasPrefix(field, "Transfer-Encoding")
	}
	body := strings.Repeat("x", size)
	if chunked {
		body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, body)
	} else {
		header += fmt.Sprintf("Content-Length: %d\r\n", size)
	}
	if _, err := io.WriteString(c, header+"\r\n"+body); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, err
}
