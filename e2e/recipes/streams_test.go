package recipes

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// checkEventStream checks that a message passes at once, and that the stream is open beyond the
// first comment, which the server sends when nothing else was sent for as long as a poll.
func checkEventStream(m *machine) {
	client := m.client(30)
	client.Timeout = 0 // of the whole response
	ctx, cancel := context.WithTimeout(m.t.Context(), pollTime+waitTimeout)
	defer cancel()
	r := m.request("GET", "/inbox?after=", "erin", "").WithContext(ctx)
	r.Header.Set("Accept", "text/event-stream")
	resp, err := client.Do(r)
	m.must(err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		m.t.Fatalf("event stream: got %s", resp.Status)
	}
	lines := bufio.NewReader(resp.Body)
	m.wantLine(lines, "retry: ")
	for _, text := range []string{"first", "second"} {
		m.wantStatus(m.client(31), m.request("POST", "/inbox?to=erin", "dave", text), http.StatusOK)
		id := strings.TrimPrefix(m.wantLine(lines, "id: "), "id: ")
		if got := m.wantLine(lines, "data: "); !strings.Contains(got, `"body64"`) {
			m.t.Errorf("event stream: got %q, want the message", got)
		}
		m.wantStatus(m.client(32), m.request("POST", "/inbox/ack?upTo="+id, "erin", ""), http.StatusNoContent)
		if text == "first" {
			m.wantLine(lines, ":")
		}
	}
}

// wantLine returns the next line that begins with a text.
func (m *machine) wantLine(lines *bufio.Reader, prefix string) string {
	m.t.Helper()
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			m.t.Fatalf("event stream: want %q: %v", prefix, err)
		}
		if strings.HasPrefix(line, prefix) {
			return strings.TrimSuffix(line, "\n")
		}
	}
}

// checkWebSocket checks that messages pass in both directions, and that the connection is open
// beyond the first ping.
func checkWebSocket(m *machine) {
	client := overHTTP1(m.client(33)) // an upgrade is one of HTTP/1.1
	client.Timeout = 0                // with one, the connection cannot be written to
	ctx, cancel := context.WithTimeout(m.t.Context(), pollTime+waitTimeout)
	defer cancel()
	var pings atomic.Int64
	c, _, err := websocket.Dial(ctx, "wss://"+site+"/inbox", &websocket.DialOptions{
		HTTPClient: client, Subprotocols: []string{"inbox.1"},
		OnPingReceived: func(context.Context, []byte) bool { pings.Add(1); return true },
	})
	m.must(err)
	defer c.CloseNow()
	write := func(format string, args ...any) {
		m.t.Helper()
		m.must(c.Write(ctx, websocket.MessageText, fmt.Appendf(nil, format, args...)))
	}
	want := func(pattern string) []string {
		m.t.Helper()
		_, frame, err := c.Read(ctx)
		m.must(err)
		found := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(string(frame))
		if found == nil {
			m.t.Fatalf("WebSocket: got %q, want %s", frame, pattern)
		}
		return found
	}
	write("hello frank password%%20of%%20frank after=")
	want(`welcome \d+ \d+ \d+ \d+`)
	for ref := 1; ref <= 2; ref++ {
		write("send %d frank text hello %d", ref, ref)
		var id string
		for range 2 { // in either order
			if found := want(fmt.Sprintf(`ok %d|msg (\d+) frank text hello %d`, ref, ref)); found[1] != "" {
				id = found[1]
			}
		}
		write("ack %s", id)
		if ref == 1 {
			// The library answers the ping while it waits for the next message.
			go m.postLater(pollTime + 3*time.Second)
			want(`msg \d+ dave bytes later`)
			if pings.Load() == 0 {
				m.t.Errorf("got no ping in %v", pollTime)
			}
		}
	}
}

// postLater sends a message to the WebSocket.
func (m *machine) postLater(after time.Duration) {
	time.Sleep(after)
	resp, err := m.client(34).Do(m.request("POST", "/inbox?to=frank", "dave", "later"))
	if err != nil {
		m.t.Error(err)
		return
	}
	resp.Body.Close()
}
