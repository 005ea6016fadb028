package recipes

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// standIn is an upstream with an event stream and a WebSocket that echoes a line.
type standIn struct {
	next chan struct{} // each value lets an event stream continue
}

// checkStreams replaces the server by a stand-in at the address that the proxy knows, and checks
// that the proxy neither buffers an event stream nor refuses a WebSocket.
func (m *machine) checkStreams(addr string) {
	m.t.Helper()
	s := &standIn{next: make(chan struct{}, 1)}
	var l net.Listener
	m.must(network.Do(m.name, func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	}))
	server := &http.Server{Handler: s}
	go server.Serve(l)
	m.t.Cleanup(func() { server.Close() })
	m.t.Run("event stream", func(t *testing.T) { m.checkEventStream(t, s) })
	m.t.Run("WebSocket", m.checkWebSocket)
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && strings.EqualFold(r.Header.Get("Connection"), "upgrade"):
		echoLine(w, r)
	case r.Header.Get("Accept") == "text/event-stream":
		s.serveEvents(w)
	default:
		http.Error(w, fmt.Sprintf("no stream: %v", r.Header), http.StatusBadRequest)
	}
}

// serveEvents sends the second event only after the client has received the first.
func (s *standIn) serveEvents(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	io.WriteString(w, "data: first\n\n")
	w.(http.Flusher).Flush()
	select {
	case <-s.next:
		io.WriteString(w, "data: second\n\n")
	case <-time.After(waitTimeout / 2):
		io.WriteString(w, "data: the first one was held back\n\n")
	}
}

// echoLine accepts a WebSocket (RFC 6455, section 4.2.2) and echoes a line.
func echoLine(w http.ResponseWriter, r *http.Request) {
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		acceptKey(r.Header.Get("Sec-WebSocket-Key")))
	rw.Flush()
	line, err := rw.ReadString('\n')
	if err == nil {
		io.WriteString(rw, line)
		rw.Flush()
	}
}

func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (m *machine) checkEventStream(t *testing.T, s *standIn) {
	r := m.request("GET", "/inbox", "alice", "")
	r.Header.Set("Accept", "text/event-stream")
	resp, err := m.client(30).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewReader(resp.Body)
	for _, want := range []string{"data: first\n", "\n", "data: second\n"} {
		if got, err := events.ReadString('\n'); err != nil || got != want {
			t.Fatalf("got %q, %v (%s), want %q", got, err, resp.Status, want)
		}
		if want == "\n" {
			s.next <- struct{}{}
		}
	}
}

func (m *machine) checkWebSocket(t *testing.T) {
	client := overHTTP1(m.client(31)) // an upgrade is one of HTTP/1.1
	client.Timeout = 0                // with one, the connection cannot be written to
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	r := m.request("GET", "/inbox", "alice", "").WithContext(ctx)
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key} {
		r.Header.Set(name, value)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	c, isStream := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !isStream || resp.Header.Get("Sec-WebSocket-Accept") != acceptKey(key) {
		t.Fatalf("got %s and %v, want an accepted WebSocket", resp.Status, resp.Header)
	}
	if _, err := io.WriteString(c, "a frame\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := bufio.NewReader(c).ReadString('\n'); err != nil || got != "a frame\n" {
		t.Errorf("got %q, %v, want the frame", got, err)
	}
}
