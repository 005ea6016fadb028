package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestPageShowsThisServer checks that the code of docs/library.md is that of main.go,
// from serve to the end, and that serve fits on a page.
func TestPageShowsThisServer(t *testing.T) {
	page, err := os.ReadFile("../../docs/library.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		blocks = append(blocks, strings.TrimSpace(m[1]))
	}
	_, want, found := strings.Cut(string(source), "\nfunc serve(")
	if !found || len(blocks) == 0 {
		t.Fatalf("got %d blocks in the page, and serve in main.go: %v", len(blocks), found)
	}
	if got, want := strings.Join(blocks, "\n\n"), "func serve("+strings.TrimSpace(want); got != want {
		t.Errorf("docs/library.md differs from main.go: got\n%s\nwant\n%s", got, want)
	}
	if lines := strings.Count(blocks[0], "\n") + 1; lines >= 60 {
		t.Errorf("serve has %d lines, want less than 60", lines)
	}
}

func TestServe(t *testing.T) {
	t.Chdir(t.TempDir()) // without certificate files, the certificate is self-signed
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, listener, make([]byte, 64)) }()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	client := &http.Client{Transport: transport}
	do := func(user, password, method, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequest(method, "https://"+listener.Addr().String()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			r.SetBasicAuth(user, password)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	for _, row := range []struct {
		user, password, method, path, body string
		status                             int
		want                               string
	}{
		{"bob", "builder", "GET", "/inbox?wait=0", "", 204, ""},
		{"alice", "rabbit", "POST", "/inbox?to=bob", "an offer", 200, ""},
		{"bob", "builder", "GET", "/inbox", "", 200, "an offer"},
		{"bob", "a guess", "GET", "/inbox", "", 401, "in use with another password"},
		{"", "", "GET", "/ice", "", 200, "iceServers"},
		{"", "", "GET", "/", "", 200, "<html"},
	} {
		status, text := do(row.user, row.password, row.method, row.path, row.body)
		if status != row.status || !strings.Contains(text, row.want) {
			t.Errorf("%s %s of %q: got %d %.100q, want %d %q", row.method, row.path, row.user, status, text, row.status, row.want)
		}
	}
	poll := make(chan int, 1)
	go func() { status, _ := do("carol", "c", "GET", "/inbox", ""); poll <- status }()
	for status := 404; status == 404; { // until carol has claimed her name
		status, _ = do("alice", "rabbit", "POST", "/inbox?to=carol&wait=5", "an offer")
	}
	if status := <-poll; status != 200 {
		t.Errorf("got %d for the poll, want 200", status)
	}
	for range 10 {
		do("bob", "a guess", "GET", "/inbox", "")
	}
	if status, _ := do("bob", "a guess", "GET", "/inbox", ""); status != http.StatusTooManyRequests {
		t.Errorf("got %d after many guesses, want 429", status)
	}
	stop()
	transport.CloseIdleConnections()
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}
