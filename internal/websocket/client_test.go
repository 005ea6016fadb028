package websocket

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inbox/internal/netconn"
)

// testTimeout bounds every wait of a test.
const testTimeout = 30 * time.Second

// The kinds of connections that the tests run on.
var transports = []string{"plain", "TLS", "plain without polling", "TLS without polling"}

// testServer serves WebSockets with handlers of a test.
type testServer struct {
	addr   string
	tls    *tls.Config // of clients; nil over plain TCP
	config *Config
	conns  Conns

	errors chan error // of Upgrade
}

// newTestServer serves connections with the handler that make returns.
func newTestServer(t testing.TB, transport string, config Config, makeHandler func(*Conn) Handler) *testServer {
	s := &testServer{config: &config, errors: make(chan error, 16)}
	config.Conns = &s.conns
	if config.MaxMessageBytes == 0 {
		config.MaxMessageBytes = 1 << 20
	}
	if config.CloseTimeout == 0 {
		config.CloseTimeout = testTimeout
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Upgrade(w, r, &config)
		if err != nil {
			s.errors <- err
			var refused *HandshakeError
			if errors.As(err, &refused) {
				refused.SetHeader(w.Header())
				http.Error(w, refused.Reason, refused.Status)
			}
			return
		}
		c.Start(makeHandler(c))
	})
	server := httptest.NewUnstartedServer(h)
	if !strings.Contains(transport, "without polling") {
		server.Listener = netconn.FetchListener(server.Listener)
	}
	if strings.HasPrefix(transport, "TLS") {
		server.StartTLS()
		s.tls = &tls.Config{InsecureSkipVerify: true}
	} else {
		server.Start()
	}
	t.Cleanup(func() {
		s.conns.Abort()
		server.Close()
		s.waitConns(t, 0)
	})
	s.addr = server.Listener.Addr().String()
	return s
}

// waitConns waits until so many connections are open.
func (s *testServer) waitConns(t testing.TB, n int) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); s.conns.Len() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %d connections, want %d", s.conns.Len(), n)
		}
	}
}

// testClient is a client that can break every rule of the protocol.
type testClient struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	resp *http.Response
}

const upgradeRequest = "GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// dial connects and sends the opening handshake with additional header lines, and bytes behind it.
func (s *testServer) dial(t testing.TB, behind ...string) *testClient {
	return s.dialRequest(t, upgradeRequest+"\r\n"+strings.Join(behind, ""))
}

func (s *testServer) dialRequest(t testing.TB, request string) *testClient {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err == nil && s.tls != nil {
		conn = tls.Client(conn, s.tls)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(testTimeout))
	c := &testClient{t: t, conn: conn, r: bufio.NewReader(conn)}
	c.send([]byte(request))
	if c.resp, err = http.ReadResponse(c.r, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *testClient) send(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Errorf("write: %v", err)
	}
}

// Opcodes and bits of the first byte.
const (
	opContinuation, opText, opBinary, opClose, opPing, opPong = 0, 1, 2, 8, 9, 10
	fin                                                       = 0x80
)

// clientFrame returns a masked frame. It does not use the code that is tested.
func clientFrame(first byte, payload string) []byte {
	b := appendLength([]byte{first}, len(payload), 0x80)
	mask := [4]byte{0x37, 0xfa, 0x21, byte(len(payload))}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

func appendLength(b []byte, n int, masked byte) []byte {
	switch {
	case n < 126:
		return append(b, masked|byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, masked|126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, masked|127), uint64(n))
}

// readFrame returns the first byte of the next frame and its payload.
func (c *testClient) readFrame() (first byte, payload string, err error) {
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, "", err
	}
	n := int(head[1])
	switch n {
	case 126:
		var b [2]byte
		io.ReadFull(c.r, b[:])
		n = int(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		io.ReadFull(c.r, b[:])
		n = int(binary.BigEndian.Uint64(b[:]))
	}
	b := make([]byte, n)
	_, err = io.ReadFull(c.r, b)
	return head[0], string(b), err
}

// wantFrame reads a frame and compares it.
func (c *testClient) wantFrame(first byte, payload string) {
	c.t.Helper()
	gotFirst, got, err := c.readFrame()
	if err != nil || gotFirst != first || got != payload {
		c.t.Errorf("got frame %#x %q, %v; want %#x %q", gotFirst, cut(got), err, first, cut(payload))
	}
}

func cut(s string) string { return s[:min(len(s), 80)] }

func closeFrame(code uint16, reason string) []byte {
	return clientFrame(fin|opClose, closePayload(code, reason))
}

func closePayload(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

// wantClose reads frames until a close frame, which must have the code, and then the end.
func (c *testClient) wantClose(code uint16) (reason string) {
	c.t.Helper()
	for {
		first, payload, err := c.readFrame()
		if err != nil {
			c.t.Errorf("got %v, want a close frame with %d", err, code)
			return ""
		}
		if first != fin|opClose {
			continue
		}
		if want := closePayload(code, ""); code == NoStatus && payload != "" || code != NoStatus && !strings.HasPrefix(payload, want) {
			c.t.Errorf("got a close frame with %q, want %d", payload, code)
		}
		c.wantEnd()
		return payload[min(2, len(payload)):]
	}
}

// hangUp closes the connection below TLS, which waits for the writes in progress.
func (c *testClient) hangUp() {
	if over, ok := c.conn.(*tls.Conn); ok {
		over.NetConn().Close()
	}
	c.conn.Close()
}

func (c *testClient) wantEnd() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		c.t.Errorf("got %q, %v, want the end of the stream", cut(string(rest)), err)
	}
}

// recorder is a handler that records what it is called with, and repeats messages.
type recorder struct {
	conn   *Conn
	events chan string
	closed chan error
	echo   bool
	allow  func(Kind) time.Duration // until it returns 0
	onWake func()
}

func newRecorder(c *Conn) *recorder {
	return &recorder{conn: c, events: make(chan string, 1000), closed: make(chan error, 1)}
}

func (h *recorder) Allow(k Kind, _ []byte) (wait time.Duration, again bool) {
	if h.allow != nil {
		return h.allow(k), true
	}
	return 0, false
}

func (h *recorder) Message(k Kind, payload []byte) {
	if h.echo {
		h.conn.Write(k, payload)
		return
	}
	h.events <- fmt.Sprintf("%d %s", k, bytes.Clone(payload))
}

func (h *recorder) Pong(payload []byte) {
	if !h.echo {
		h.events <- "pong " + string(payload)
	}
}

func (h *recorder) Woken() {
	if h.onWake != nil {
		h.onWake()
		return
	}
	h.events <- "woken"
}

func (h *recorder) Closed(err error) { h.closed <- err }

// next returns the next event.
func (h *recorder) next(t testing.TB) string {
	t.Helper()
	select {
	case e := <-h.events:
		return e
	case <-time.After(testTimeout):
		t.Fatal("no event")
	}
	return ""
}

// end returns the error of Closed.
func (h *recorder) end(t testing.TB) error {
	t.Helper()
	select {
	case err := <-h.closed:
		return err
	case <-time.After(testTimeout):
		t.Fatal("the connection did not end")
	}
	return nil
}

// echoHandler repeats messages.
func echoHandler(c *Conn) Handler {
	h := newRecorder(c)
	h.echo = true
	return h
}

// recordedServer is a server of one connection whose handler the test sees.
func recordedServer(t testing.TB, transport string, config Config, set ...func(*recorder)) (*testServer, chan *recorder) {
	handlers := make(chan *recorder, 16)
	return newTestServer(t, transport, config, func(c *Conn) Handler {
		h := newRecorder(c)
		for _, f := range set {
			f(h)
		}
		handlers <- h
		return h
	}), handlers
}
