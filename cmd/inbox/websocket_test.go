package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/server"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

const socketTimeout = 30 * time.Second

// socket is a WebSocket of a client.
type socket struct {
	t    *testing.T
	conn net.Conn
	r    io.Reader
}

func (s *socket) Read(p []byte) (int, error)  { return s.r.Read(p) }
func (s *socket) Write(p []byte) (int, error) { return s.conn.Write(p) }

// dialSocket makes a WebSocket. The prefix precedes what the client sends.
func (p *program) dialSocket(t *testing.T, prefix string, config *tls.Config) (*socket, error) {
	t.Helper()
	if config == nil {
		config = &tls.Config{}
	}
	config.InsecureSkipVerify = true
	dialer := ws.Dialer{Protocols: []string{"inbox.1"}, Timeout: socketTimeout, TLSConfig: config}
	dialer.NetDial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := net.Dial(network, addr)
		if err == nil && prefix != "" {
			_, err = io.WriteString(conn, prefix)
		}
		return conn, err
	}
	conn, r, _, err := dialer.Dial(t.Context(), "ws"+strings.TrimPrefix(p.url, "http")+"/inbox")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(socketTimeout))
	s := &socket{t, conn, conn}
	if r != nil {
		s.r = r
	}
	return s, nil
}

// socket returns a WebSocket of a name.
func (p *program) socket(t *testing.T, name, params string) *socket {
	t.Helper()
	s, err := p.dialSocket(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.hello(name, params)
	return s
}

func (s *socket) hello(name, params string) {
	s.t.Helper()
	s.send("hello %s password%%20of%%20%s %s", name, name, params)
	s.want(`welcome \d+ \d+ 64 25`)
}

func (s *socket) send(format string, args ...any) {
	s.t.Helper()
	if err := wsutil.WriteClientText(s.conn, fmt.Appendf(nil, format, args...)); err != nil {
		s.t.Error(err)
	}
}

// want reads a frame and returns the groups of the pattern.
func (s *socket) want(pattern string) []string {
	s.t.Helper()
	frame, _, err := wsutil.ReadServerData(s)
	found := regexp.MustCompile("^(?s:" + pattern + ")$").FindSubmatch(frame)
	if err != nil || found == nil {
		s.t.Fatalf("got %.200q, %v, want %s", frame, err, pattern)
	}
	groups := make([]string, len(found)-1)
	for i, group := range found[1:] {
		groups[i] = string(group)
	}
	return groups
}

func (s *socket) wantClose(code ws.StatusCode) {
	s.t.Helper()
	frame, _, err := wsutil.ReadServerData(s)
	var closed wsutil.ClosedError
	if !errors.As(err, &closed) || closed.Code != code {
		s.t.Fatalf("got %.200q, %v, want a close frame with %d", frame, err, code)
	}
}

// TestWebSocket relays messages through all layers of a connection.
func TestWebSocket(t *testing.T) {
	const proxyHeader = "PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\n"
	for name, row := range map[string]struct {
		args   []string
		prefix string
		tls    *tls.Config
	}{
		"plain":          {[]string{"-https=false"}, "", nil},
		"TLS 1.3":        {nil, "", nil},
		"TLS 1.2":        {nil, "", &tls.Config{MaxVersion: tls.VersionTLS12}},
		"with a proxy":   {[]string{"-https=false", "-proxy-protocol", "-trusted-proxies", "127.0.0.1"}, proxyHeader, nil},
		"TLS in a proxy": {[]string{"-proxy-protocol", "-trusted-proxies", "127.0.0.1"}, proxyHeader, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, append(row.args, "-rate", "1000", "-burst", "1000")...)
			var ends []*socket
			for _, user := range []string{"alice", "bob"} {
				s, err := p.dialSocket(t, row.prefix, row.tls)
				if err != nil {
					t.Fatal(err)
				}
				s.hello(user, "after=")
				ends = append(ends, s)
			}
			alice, bob := ends[0], ends[1]
			for i, n := range []int{0, 1, 100, 4096, 17 << 10, 60 << 10} {
				body := strings.Repeat("x", n)
				alice.send("send %d bob text %s", i+1, body)
				id := bob.want(`msg (\d+) alice text ` + body)[0]
				bob.send("ack %s", id)
				alice.want(`ok \d+`)
			}
			// In small pieces, which are small TLS records.
			frame := ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("send 100 bob text " + strings.Repeat("y", 500)))))
			for _, b := range frame {
				alice.conn.Write([]byte{b})
			}
			bob.want(`msg \d+ alice text y{500}`)
		})
	}
}

// TestWebSocketFramesTakeTokens checks that frames over the budget are handled later, and that the
// connection stays open.
func TestWebSocketFramesTakeTokens(t *testing.T) {
	p := start(t, "-https=false", "-rate", "2", "-burst", "4", "-metrics-bind", "127.0.0.1:0")
	bob := p.socket(t, "bob", "")
	began := time.Now()
	const sends = 6
	for i := range sends {
		bob.send("send %d bob text %d", i+1, i)
	}
	for seen, last := 0, 0; seen < sends || last < sends; {
		frame, _, err := wsutil.ReadServerData(bob)
		if err != nil {
			t.Fatal(err)
		}
		verb, rest, _ := strings.Cut(string(frame), " ")
		if verb == "msg" {
			seen++
		} else {
			last, _ = strconv.Atoi(rest)
		}
	}
	p.waitMetric("inbox_frame_delay_seconds_count", 1)
	// The handshake and the hello took two tokens.
	if took := time.Since(began); took < (sends-2)*time.Second/2-200*time.Millisecond {
		t.Errorf("%d frames took %v with 2 a second", sends, took)
	}
}

// TestShutdownEndsWebSockets checks that the program ends WebSockets with a reason.
func TestShutdownEndsWebSockets(t *testing.T) {
	for _, args := range [][]string{{"-https=false"}, nil} {
		p := start(t, args...)
		bob := p.socket(t, "bob", "after=")
		alice := p.socket(t, "alice", "")
		silent, err := p.dialSocket(t, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		alice.send("send 1 bob text kept")
		bob.want(`msg \d+ alice text kept`)
		alice.want("ok 1")
		p.cancel()
		for _, s := range []*socket{bob, alice, silent} {
			s.want("end stopping")
			s.wantClose(1001)
		}
		if code := p.stop(); code != 0 {
			t.Errorf("got exit code %d", code)
		}
	}
}

// TestShutdownAbortsWebSockets checks that a client that does not answer a close frame does not
// delay the exit beyond the timeout.
func TestShutdownAbortsWebSockets(t *testing.T) {
	timeouts := server.DefaultTimeouts()
	timeouts.Drain, timeouts.Shutdown = 10*time.Millisecond, 500*time.Millisecond
	p := startWithTimeouts(t, timeouts, "-https=false")
	s, err := p.dialSocket(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("got exit code %d", code)
	}
	s.want("end stopping")
}

func TestHelloTimeout(t *testing.T) {
	timeouts := server.DefaultTimeouts()
	timeouts.Header = 300 * time.Millisecond
	p := startWithTimeouts(t, timeouts, "-https=false")
	s, err := p.dialSocket(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.wantClose(1008)
}

// TestWebSocketIsCounted checks that an open WebSocket is a request that waits, and what is counted of
// it.
func TestWebSocketIsCounted(t *testing.T) {
	p := start(t, "-https=false", "-metrics-bind", "127.0.0.1:0")
	p.socket(t, "bob", "after=")
	p.claim("carol")
	p.waitMetric(`inbox_requests_total{code="101",route="GET /inbox (WebSocket)"}`, 1)
	p.waitMetric(`inbox_receivers{transport="websocket"}`, 1)
}
