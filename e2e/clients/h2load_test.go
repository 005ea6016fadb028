package clients

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"inbox/e2e"
)

// TestH2load checks that h2load, the load generator of nghttp2, gets an answer to each request over
// ten HTTP/2 connections with twenty streams each: to polls, to acknowledgements, to messages that
// fill most of a mailbox, and to event streams of one mailbox, which end one another.
func TestH2load(t *testing.T) {
	if os.Getenv("H2LOAD") == "" {
		t.Skip("H2LOAD is not set, as scripts/soak does")
	}
	server, err := e2e.Start(program, "-bind", "127.0.0.1:0", "-https=true", "-rate", "0", "-state", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	body := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(body, []byte(strings.Repeat("x", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, path string
		requests   int
		flags      []string
	}{
		{"polls", "/inbox?wait=0", 20_000, nil},
		{"acknowledgements", "/inbox/ack?upTo=1", 20_000, []string{"-d", body}},
		{"messages", "/inbox?to=h2load", 90, []string{"-d", body, "-H", "Content-Type: text/plain"}},
		{"event streams", "/inbox?after=", 200, []string{"-T", "3s", "-H", "Accept: text/event-stream"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			field := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("h2load:secret"))
			args := append([]string{"-n", strconv.Itoa(row.requests), "-c", "10", "-m", "20", "-H", field}, row.flags...)
			out := run(t, "h2load", append(args, "https://"+server.Addr+row.path))
			if want := fmt.Sprintf("status codes: %d 2xx, 0 3xx, 0 4xx, 0 5xx", row.requests); !strings.Contains(out, want) || !strings.Contains(out, "Application protocol: h2\n") {
				t.Errorf("got\n%s\nwant %q over HTTP/2", out, want)
			}
		})
	}
}
