package conn

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"inbox/internal/netconn"

	"golang.org/x/net/http2"
)

// upgradeServer is a server whose path /upgrade hijacks connections, and whose path /wait waits for
// the channel.
func upgradeServer(t *testing.T, idle time.Duration) (s *testServer, release chan struct{}) {
	release = make(chan struct{})
	s = startServer(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/upgrade":
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			netconn.Hijacked(c)
			io.WriteString(c, "hijacked\n")
			go func() {
				io.Copy(io.Discard, c)
				c.Close()
			}()
		case "/wait":
			<-release
		}
	}, nil)
	s.http2.pages.mu.Lock()
	defer s.http2.pages.mu.Unlock()
	s.http2.pages.idle = idle
	return s, release
}

// upgrade opens a connection and lets it be hijacked.
func (s *testServer) upgrade() *tls.Conn {
	s.t.Helper()
	c := s.dial("http/1.1")
	io.WriteString(c, "GET /upgrade HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if got := make([]byte, len("hijacked\n")); !s.read(c, got) {
		s.t.Fatalf("got %q, want a hijacked connection", got)
	}
	return c
}

func (s *testServer) read(c net.Conn, p []byte) bool {
	_, err := io.ReadFull(c, p)
	return err == nil
}

// TestHTTP2LeavesBesideWebSocket checks that an idle HTTP/2 connection gets GOAWAY once its client
// has a WebSocket, whichever came first, and one with a request after it.
func TestHTTP2LeavesBesideWebSocket(t *testing.T) {
	s, release := upgradeServer(t, 20*time.Millisecond)
	early := s.dialHTTP2()
	if early.get(1, "/"); !early.answered(1) {
		t.Fatal("no response over HTTP/2")
	}
	busy := s.dialHTTP2()
	busy.get(1, "/wait")
	webSocket := s.upgrade()
	if !early.goAway(1) {
		t.Error("idle when the WebSocket came: got no GOAWAY")
	}
	early.ended()
	late := s.dialHTTP2()
	if late.get(1, "/"); !late.answered(1) || !late.goAway(1) {
		t.Error("idle after the WebSocket came: got no response and GOAWAY")
	}
	close(release)
	if !busy.answered(1) || !busy.goAway(1) {
		t.Error("with a request: got no response and then GOAWAY")
	}
	late.ended()
	busy.ended()
	webSocket.Close()
	s.wait("all connections to be forgotten", func() bool {
		s.http2.pages.mu.Lock()
		defer s.http2.pages.mu.Unlock()
		return len(s.http2.pages.clients) == 0
	})
}

// TestHTTP2StaysWithoutWebSocket checks that nothing is told to leave after the WebSocket has ended,
// and that a connection of a proxy belongs to no client.
func TestHTTP2StaysWithoutWebSocket(t *testing.T) {
	s, _ := upgradeServer(t, time.Millisecond)
	s.upgrade().Close()
	pages := s.http2.pages
	s.wait("the WebSocket to be forgotten", func() bool {
		pages.mu.Lock()
		defer pages.mu.Unlock()
		return len(pages.clients) == 0
	})
	f := s.dialHTTP2()
	if f.get(1, "/"); !f.answered(1) {
		t.Fatal("no response over HTTP/2")
	}
	pages.mu.Lock()
	for addr, c := range pages.clients {
		if c.checking || c.webSockets != 0 {
			t.Errorf("%v: got %+v, want no check", addr, c)
		}
	}
	pages.mu.Unlock()
	if f.get(3, "/"); !f.answered(3) {
		t.Error("got no second response")
	}
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	if addr := pages.addrOf(server); addr.IsValid() {
		t.Errorf("got address %v for a connection without one", addr)
	}
	pages.isProxy = func(string) bool { return true }
	tcp := s.dialTCP()
	if addr := pages.addrOf(tcp); addr.IsValid() {
		t.Errorf("got address %v for a proxy, want none", addr)
	}
}

// TestGoAwayIsInsertedBetweenFrames checks it for frames that arrive in pieces of any size.
func TestGoAwayIsInsertedBetweenFrames(t *testing.T) {
	var sent bytes.Buffer
	sent.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&sent, nil)
	f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	f.WritePing(false, [8]byte{1})
	for size := 1; size <= sent.Len(); size++ {
		client, server := net.Pipe()
		go func() {
			for rest := sent.Bytes(); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				client.Write(rest[:min(size, len(rest))])
			}
		}()
		c := newHTTP2Conn(server)
		c.goAway()
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(c, preface); err != nil {
			t.Fatal(err)
		}
		reader, types := http2.NewFramer(nil, c), ""
		for range 3 {
			frame, err := reader.ReadFrame()
			if err != nil {
				t.Fatalf("pieces of %d bytes: %v", size, err)
			}
			types += " " + frame.Header().Type.String()
		}
		if types != " SETTINGS GOAWAY PING" {
			t.Errorf("pieces of %d bytes: got%s, want SETTINGS GOAWAY PING", size, types)
		}
		client.Close()
		server.Close()
	}
}
