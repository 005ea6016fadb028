package topics

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/internal/netconn"

	"github.com/gobwas/ws"
)

// testTimeout bounds every wait of a test.
const testTimeout = 30 * time.Second

// testServer serves a handler on a listener as that of the command.
type testServer struct {
	*Handler
	topics *Memory
	addr   string
}

func newTestServer(t testing.TB, config Config, limits Limits, change ...func(*Handler)) *testServer {
	s := &testServer{topics: NewMemory(limits)}
	config.Topics = s.topics
	s.Handler = NewHandler(config)
	for _, f := range change {
		f(s.Handler)
	}
	server := httptest.NewUnstartedServer(s.Handler)
	server.Listener = netconn.FetchListener(server.Listener)
	server.Start()
	s.addr = server.Listener.Addr().String()
	t.Cleanup(func() {
		s.Stop(1001)
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		go func() { time.Sleep(100 * time.Millisecond); s.conns.Abort() }() // clients that do not answer
		if err := s.Wait(ctx); err != nil {
			t.Errorf("connections are left: %v", err)
		}
		server.Close()
		eventually(t, "nothing is left", func() bool {
			stats := s.Stats()
			return stats.Topics == 0 && stats.Members == 0 && stats.QueuedBytes == 0 &&
				stats.Open["unknown"]+stats.Open["y-webrtc"]+stats.Open["trystero"] == 0
		})
	})
	return s
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timeout: %s", what)
		}
	}
}

// client is a WebSocket.
type client struct {
	t        testing.TB
	conn     net.Conn
	r        *bufio.Reader
	barriers int
	inRead   []string // texts that were received while the client waited for something else
}

func (s *testServer) dial(t testing.TB) *client {
	t.Helper()
	return s.dialPath(t, "/topics")
}

func (s *testServer) dialPath(t testing.TB, path string) *client {
	t.Helper()
	dialer := ws.Dialer{Timeout: testTimeout}
	conn, r, _, err := dialer.Dial(context.Background(), "ws://"+s.addr+path)
	if err != nil {
		t.Fatal(err)
	}
	if r == nil {
		r = bufio.NewReader(conn)
	}
	conn.SetDeadline(time.Now().Add(testTimeout))
	t.Cleanup(func() { conn.Close() })
	return &client{t: t, conn: conn, r: r}
}

func (c *client) send(text string) { c.write(ws.OpText, text) }

func (c *client) write(op ws.OpCode, payload string) {
	c.t.Helper()
	if err := ws.WriteFrame(c.conn, ws.MaskFrameInPlace(ws.NewFrame(op, true, []byte(payload)))); err != nil {
		c.t.Errorf("write: %v", err)
	}
}

// read returns the next frame.
func (c *client) read() (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(c.r); err != nil {
		return f, err
	}
	f.Payload = make([]byte, f.Header.Length) // the test trusts its server
	_, err = io.ReadFull(c.r, f.Payload)
	return f, err
}

// receive returns the next text.
func (c *client) receive() string {
	c.t.Helper()
	if len(c.inRead) > 0 {
		text := c.inRead[0]
		c.inRead = c.inRead[1:]
		return text
	}
	for {
		f, err := c.read()
		switch {
		case err != nil:
			c.t.Fatalf("read: %v", err)
		case f.Header.OpCode == ws.OpText:
			return string(f.Payload)
		case f.Header.OpCode == ws.OpClose:
			c.t.Fatalf("got a close frame: %q", f.Payload)
		}
	}
}

// sync waits until the server has handled all that was sent.
func (c *client) sync() {
	c.t.Helper()
	c.barriers++
	payload := fmt.Sprint(c.barriers)
	for c.write(ws.OpPing, payload); ; {
		f, err := c.read()
		if err != nil {
			c.t.Fatalf("read: %v", err)
		}
		switch {
		case f.Header.OpCode == ws.OpPong && string(f.Payload) == payload:
			return
		case f.Header.OpCode == ws.OpText:
			c.inRead = append(c.inRead, string(f.Payload))
		}
	}
}

// received returns the texts that were delivered, after the senders' sync. The client must be a
// member of the topic "marker", in the protocol of the frame.
func (c *client) received(marker string) (texts []string) {
	c.t.Helper()
	c.send(marker)
	for {
		text := c.receive()
		if strings.Contains(text, `"marker"`) {
			return texts
		}
		texts = append(texts, text)
	}
}

// closeCode reads until a close frame, and returns its code; zero without one.
func (c *client) closeCode() ws.StatusCode {
	for {
		f, err := c.read()
		if err != nil {
			return 0
		}
		if f.Header.OpCode == ws.OpClose {
			code, _ := ws.ParseCloseFrameData(f.Payload)
			return code
		}
	}
}

// testClient is a Client that counts.
type testClient struct {
	payer   inbox.Payer
	charged atomic.Int64
	delays  atomic.Int64 // how often Delay returns more than zero
	frames  atomic.Int64
	left    atomic.Int64
}

func (c *testClient) Payer() inbox.Payer { return c.payer }
func (c *testClient) Delay() (wait time.Duration, again bool) {
	if c.delays.Add(-1) >= 0 {
		return time.Millisecond, true
	}
	c.frames.Add(1)
	return 0, false
}
func (c *testClient) Charge(tokens int) { c.charged.Add(int64(tokens)) }
func (c *testClient) Leave()            { c.left.Add(1) }

// enter returns a function for Config.Enter.
func (c *testClient) enter(*http.Request) (Client, error) { return c, nil }

// get sends a request with fields, as in "Origin: https://example.org".
func (s *testServer) get(t *testing.T, method string, fields ...string) (*http.Response, string) {
	t.Helper()
	return s.getPath(t, "/topics", method, fields...)
}

func (s *testServer) getPath(t *testing.T, path, method string, fields ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+s.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ": ")
		r.Header.Set(name, value)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(bytes.TrimSpace(body))
}
