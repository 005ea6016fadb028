package inbox_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/internal/netconn"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// socketTimeout bounds every wait of these tests.
const socketTimeout = 30 * time.Second

// socketServer is a handler behind a server.
type socketServer struct {
	*rig
	web *httptest.Server
}

func newSocketServer(t *testing.T, change func(*inbox.Config, *inbox.Limits)) *socketServer {
	return newServerOver(t, "http", change)
}

// newServerOver is newSocketServer over http or https. Its connections wait without a buffer, as
// those of the program, and the kernel has little room for what their clients do not read.
func newServerOver(t *testing.T, scheme string, change func(*inbox.Config, *inbox.Limits)) *socketServer {
	s := &socketServer{rig: newRig(t, change)}
	s.web = httptest.NewUnstartedServer(s.Handler)
	s.web.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if conn, ok := netconn.Find[*net.TCPConn](c); ok {
			conn.SetWriteBuffer(16 << 10)
		}
		return inbox.ConnContext(ctx, c)
	}
	s.web.Listener = netconn.FetchListener(s.web.Listener)
	if scheme == "https" {
		s.web.StartTLS()
	} else {
		s.web.Start()
	}
	t.Cleanup(func() {
		s.EndPolls()
		aborted, cancel := context.WithCancel(context.Background())
		cancel()
		s.WaitWebSockets(aborted)
		s.web.Close()
	})
	return s
}

// socketClient is the client of one WebSocket.
type socketClient struct {
	t    *testing.T
	conn net.Conn
	buf  io.Reader
}

// Read implements io.Reader: first what arrived with the handshake.
func (c *socketClient) Read(p []byte) (int, error)  { return c.buf.Read(p) }
func (c *socketClient) Write(p []byte) (int, error) { return c.conn.Write(p) }

// dial makes a WebSocket. Each header is "Name: value".
func (s *socketServer) dial(t *testing.T, header ...string) *socketClient {
	t.Helper()
	c, status := s.tryDial(t, "/inbox", header...)
	if c == nil {
		t.Fatalf("got status %d", status)
	}
	return c
}

func (s *socketServer) tryDial(t *testing.T, target string, header ...string) (*socketClient, int) {
	t.Helper()
	fields := http.Header{}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		fields.Add(name, value)
	}
	status := http.StatusSwitchingProtocols
	dialer := ws.Dialer{Header: ws.HandshakeHeaderHTTP(fields), Protocols: []string{"inbox.1"}, Timeout: socketTimeout}
	dialer.TLSConfig = &tls.Config{InsecureSkipVerify: true}
	dialer.OnStatusError = func(got int, _ []byte, _ io.Reader) { status = got }
	conn, r, hs, err := dialer.Dial(context.Background(), "ws"+strings.TrimPrefix(s.web.URL, "http")+target)
	if status != http.StatusSwitchingProtocols {
		return nil, status
	}
	if err != nil || hs.Protocol != "inbox.1" {
		t.Fatalf("got subprotocol %q, %v", hs.Protocol, err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(socketTimeout))
	c := &socketClient{t, conn, conn}
	if r != nil {
		c.buf = r
	}
	return c, status
}

// hello dials and sends a hello with the password of the rig's requests.
func (s *socketServer) hello(t *testing.T, name string, params ...string) *socketClient {
	t.Helper()
	c := s.dial(t)
	c.send(strings.Join(append([]string{"hello", name, "password%20of%20" + name}, params...), " "))
	c.want(`welcome [0-9]+ 1048576 \d+ 25`)
	return c
}

func (c *socketClient) send(frame string) {
	c.t.Helper()
	if err := wsutil.WriteClientText(c.conn, []byte(frame)); err != nil {
		c.t.Fatal(err)
	}
}

// next returns the next frame.
func (c *socketClient) next() (frame string, op ws.OpCode, err error) {
	b, op, err := wsutil.ReadServerData(c)
	return string(b), op, err
}

// want reads a frame and returns the groups of the pattern.
func (c *socketClient) want(pattern string) []string {
	c.t.Helper()
	frame, _, err := c.next()
	found := regexp.MustCompile("^(?s:" + pattern + ")$").FindStringSubmatch(frame)
	if err != nil || found == nil {
		c.t.Fatalf("got %.300q, %v, want %s", frame, err, pattern)
	}
	return found[1:]
}

// wantClose reads the close frame.
func (c *socketClient) wantClose(code int) {
	c.t.Helper()
	frame, _, err := c.next()
	var closed wsutil.ClosedError
	if !errors.As(err, &closed) || int(closed.Code) != code {
		c.t.Fatalf("got %.300q, %v, want a close frame with %d", frame, err, code)
	}
}

func TestWebSocketRelaysMessages(t *testing.T) {
	s := newSocketServer(t, nil)
	bob, alice := s.hello(t, "bob", "after="), s.hello(t, "älice", "after=")
	alice.send("send 1 bob json {\"a\": 1}")
	id := bob.want(`msg (\d+) %C3%A4lice json {"a": 1}`)[0]
	alice.want("ok 1")
	bob.send("ack " + id)
	bob.send("send 7 %C3%A4lice text ")
	alice.want(`msg \d+ bob text `)
	bob.want("ok 7")
	s.want(s.do("bob", "GET", "/inbox?after=&wait=0", ""), 204, "") // supersedes bob
	bob.want("end superseded")
	bob.wantClose(4001)
}

func TestWebSocketFrameKinds(t *testing.T) {
	s := newSocketServer(t, nil)
	bob, alice := s.hello(t, "bob"), s.hello(t, "alice")
	for i, row := range []struct {
		kind, body string
		op         ws.OpCode
	}{
		{"text", "hé", ws.OpText}, {"bytes", "hé", ws.OpBinary}, {"text", "\xff\x00", ws.OpBinary}, {"sdp", "v=0\r\n", ws.OpText}, {"bytes", "", ws.OpBinary},
	} {
		wsutil.WriteClientBinary(alice.conn, fmt.Appendf(nil, "send %d bob %s %s", i+1, row.kind, row.body))
		frame, op, err := bob.next()
		if _, rest, _ := strings.Cut(frame, " alice "); err != nil || op != row.op || rest != row.kind+" "+row.body {
			t.Errorf("got %q as %d, %v, want %q %q as %d", frame, op, err, row.kind, row.body, row.op)
		}
	}
}

// TestWebSocketResumes checks that nothing is lost between two connections.
func TestWebSocketResumes(t *testing.T) {
	s := newSocketServer(t, nil)
	alice := s.hello(t, "alice")
	s.do("bob", "GET", "/inbox?wait=0", "")
	for i := range 3 {
		alice.send(fmt.Sprintf("send %d bob text %d", i+1, i))
	}
	bob := s.hello(t, "bob", "after=")
	first := bob.want(`msg (\d+) alice text 0`)[0]
	second := bob.want(`msg (\d+) alice text 1`)[0]
	bob.conn.Close()
	bob = s.hello(t, "bob", "after="+first)
	bob.want(`msg ` + second + ` alice text 1`)
	bob.want(`msg \d+ alice text 2`)
	bob.send("ack " + second)
	bob = s.hello(t, "bob", "after="+second, "invite=token")
	bob.want(`msg \d+ alice text 2`)
}

func TestWebSocketWindow(t *testing.T) {
	s := newSocketServer(t, func(c *inbox.Config, l *inbox.Limits) { l.Capacity, c.Capacity = 1000, 1000 })
	s.do("bob", "GET", "/inbox?wait=0", "")
	const total = 3*inbox.Window + 10
	for i := range total {
		s.want(s.do("alice", "POST", "/inbox?to=bob", fmt.Sprint(i)), 200, "")
	}
	bob := s.hello(t, "bob", "after=")
	last := ""
	for i := range total {
		if i > 0 && i%inbox.Window == 0 {
			bob.send("ack " + last)
		}
		last = bob.want(fmt.Sprintf(`msg (\d+) alice bytes %d`, i))[0]
	}
}

// TestWebSocketAnswersSends checks that the answers cover all sends, in order.
func TestWebSocketAnswersSends(t *testing.T) {
	s := newSocketServer(t, nil)
	s.do("bob", "GET", "/inbox?wait=0", "")
	alice := s.hello(t, "alice")
	for i := range 50 {
		alice.send(fmt.Sprintf("send %d bob text x", i+1))
	}
	last := 0
	for last < 50 {
		n := 0
		if _, err := fmt.Sscan(alice.want(`ok (\d+)`)[0], &n); err != nil || n <= last || n > 50 {
			t.Fatalf("got ok %d after ok %d", n, last)
		}
		last = n
	}
}

func TestWebSocketRefusesSends(t *testing.T) {
	s := newSocketServer(t, func(c *inbox.Config, l *inbox.Limits) { l.Capacity = 1 })
	s.do("bob", "GET", "/inbox?wait=0", "")
	alice := s.hello(t, "alice")
	for i, row := range []struct{ send, want string }{
		{"nobody text x", `"type":"urn:inbox:problem:no-inbox".*"status":404`},
		{"bob html x", `"type":"urn:inbox:problem:bad-request".*type`},
		{"b%3Ab text x", `"type":"urn:inbox:problem:bad-request".*colon`},
		{"bob?wait=x text x", `"type":"urn:inbox:problem:bad-request".*wait`},
		{"bob text " + strings.Repeat("x", 1<<20+1), `"type":"urn:inbox:problem:body-too-large"`},
	} {
		alice.send(fmt.Sprintf("send %d %s", i+1, row.send))
		alice.want(fmt.Sprintf("fail %d {.*%s.*}", i+1, row.want))
	}
	alice.send("send 10 bob text " + strings.Repeat("x", 1<<20))
	alice.want("ok 10")
	alice.send("send 11 bob text x")
	alice.want(`fail 11 {.*"type":"urn:inbox:problem:inbox-full".*"retryAfter":\d}`)
}

// TestWebSocketSendWaits checks that a send that waits delays no other.
func TestWebSocketSendWaits(t *testing.T) {
	s := newSocketServer(t, nil)
	bob, alice := s.hello(t, "bob"), s.hello(t, "alice")
	alice.send("send 1 carol?wait=25 text late")
	alice.send("send 2 bob text now")
	bob.want(`msg \d+ alice text now`)
	alice.want("ok 2")
	carol := s.hello(t, "carol")
	carol.want(`msg \d+ alice text late`)
	alice.want("ok 1")
	for i := range 17 {
		alice.send(fmt.Sprintf("send %d dave?wait=25 text x", i+3))
	}
	alice.want(`fail 19 {.*"type":"urn:inbox:problem:payer-full".*}`)
	alice.send("send 20 erin?wait=0 text x")
	alice.want(`fail 20 {.*no-inbox.*}`)
}

// TestWebSocketSendsInOrder checks that sends that could wait stay in the order of their frames when
// the recipient exists, and that none is refused because there are many.
func TestWebSocketSendsInOrder(t *testing.T) {
	s := newSocketServer(t, nil)
	bob, alice := s.hello(t, "bob"), s.hello(t, "alice")
	const count = 60 // fewer than a window
	for i := range count {
		alice.send(fmt.Sprintf("send %d bob?wait=%d text %d", i+1, 25*(i%3), i+1))
	}
	for i := range count {
		bob.want(fmt.Sprintf(`msg \d+ alice text %d`, i+1))
	}
}

func TestWebSocketViolations(t *testing.T) {
	s := newSocketServer(t, nil)
	for _, frames := range [][]string{
		{"hi"}, {"ack 1"}, {"send 1 bob text x"}, {"hello bob"},
		{"hello bob password%20of%20bob", "hello bob password%20of%20bob"},
		{"hello bob password%20of%20bob", "send 2 nobody text x", "send 2 nobody text x"},
		{"hello bob password%20of%20bob", "send x nobody text x"},
		{"hello bob password%20of%20bob after=", "ack 1790000000000000"},
		{"hello bob password%20of%20bob", "ack 0"},
		{"ping"}, {"hello bob password%20of%20bob", "ping 1"},
	} {
		c := s.dial(t)
		for _, f := range frames {
			c.send(f)
		}
		for {
			_, _, err := c.next()
			var closed wsutil.ClosedError
			if errors.As(err, &closed) && closed.Code == 1008 {
				break
			}
			if err != nil {
				t.Errorf("%q: got %v, want a close frame with 1008", frames, err)
				break
			}
		}
	}
}

func TestWebSocketHello(t *testing.T) {
	s := newSocketServer(t, func(c *inbox.Config, _ *inbox.Limits) { c.HelloTimeout = 200 * time.Millisecond })
	s.do("bob", "GET", "/inbox?wait=0&client=a", "")
	for _, row := range []struct {
		hello, want string
		code        int
	}{
		{"hello bob wrong after=x", `fail 0 {.*"urn:inbox:problem:unauthorized".*}`, 1008},
		{"hello b%3Ab x", `fail 0 {.*"urn:inbox:problem:bad-request".*colon.*}`, 1008},
		{"hello bob password%20of%20bob after=x", `fail 0 {.*"urn:inbox:problem:bad-request".*after.*}`, 1008},
		{"hello bob password%20of%20bob client=b resume=1", `fail 0 {.*"urn:inbox:problem:other-receiver".*}`, 1008},
	} {
		c := s.dial(t)
		c.send(row.hello)
		c.want(row.want)
		c.wantClose(row.code)
	}
	late := s.dial(t)
	late.wantClose(1008)
	large := s.dial(t)
	large.send("hello bob " + strings.Repeat("x", 1024))
	large.wantClose(1009)
}

func TestWebSocketWithAuthorization(t *testing.T) {
	s := newSocketServer(t, func(c *inbox.Config, _ *inbox.Limits) { c.AnyOrigin = true })
	authorization := func(name, password string) string {
		r := &http.Request{Header: http.Header{}}
		r.SetBasicAuth(name, password)
		return "Authorization: " + r.Header.Get("Authorization")
	}
	c := s.dial(t, authorization("bob", "password of bob"))
	c.want("welcome .*")
	s.want(s.do("alice", "POST", "/inbox?to=bob", "x"), 200, "")
	id := c.want(`msg (\d+) alice bytes x`)[0]
	c, _ = s.tryDial(t, "/inbox?after="+id, authorization("bob", "password of bob"))
	c.want("welcome .*")
	if _, status := s.tryDial(t, "/inbox", authorization("bob", "wrong")); status != 401 {
		t.Errorf("got %d with a wrong password, want 401", status)
	}
	if _, status := s.tryDial(t, "/inbox?after=x", authorization("bob", "password of bob")); status != 400 {
		t.Errorf("got %d with a wrong parameter, want 400", status)
	}
	// A browser can have added the field.
	foreign := s.dial(t, authorization("bob", "password of bob"), "Origin: https://evil.example")
	foreign.send("ack 1")
	foreign.wantClose(1008)
}

func TestWebSocketChecksOrigin(t *testing.T) {
	s := newSocketServer(t, func(c *inbox.Config, _ *inbox.Limits) { c.Origins = []string{"https://pages.example"} })
	for origin, want := range map[string]int{"https://evil.example": 403, "https://pages.example": 101, s.web.URL: 101, "null": 403} {
		if _, status := s.tryDial(t, "/inbox", "Origin: "+origin); status != want {
			t.Errorf("%s: got %d, want %d", origin, status, want)
		}
	}
}

func TestWebSocketHandshakeIsRefused(t *testing.T) {
	s := newRig(t, nil)
	upgrade := func(version string) *httptest.ResponseRecorder {
		return s.do("bob", "GET", "/inbox", "", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: "+version)
	}
	w := upgrade("8")
	s.wantProblem(w, 426, "upgrade-required")
	if got := w.Header().Get("Sec-WebSocket-Version"); got != "13" {
		t.Errorf("got Sec-WebSocket-Version %q", got)
	}
	s.wantProblem(upgrade("13"), 400, "bad-request")
}

func TestWebSocketEnds(t *testing.T) {
	s := newSocketServer(t, nil)
	bob := s.hello(t, "bob")
	s.want(s.do("bob", "DELETE", "/inbox", ""), 204, "")
	bob.want("end claim-ended")
	bob.wantClose(1000)
	carol, silent := s.hello(t, "carol"), s.dial(t)
	s.EndPolls()
	for _, c := range []*socketClient{carol, silent} {
		c.want("end stopping")
		c.wantClose(1001)
	}
	ctx, cancel := context.WithTimeout(context.Background(), socketTimeout)
	defer cancel()
	if err := s.WaitWebSockets(ctx); err != nil {
		t.Errorf("got %v", err)
	}
	if _, status := s.tryDial(t, "/inbox"); status != 503 {
		t.Errorf("got %d while stopping, want 503", status)
	}
}

func TestWebSocketIsCounted(t *testing.T) {
	var entered atomic.Int64
	s := newSocketServer(t, func(c *inbox.Config, _ *inbox.Limits) {
		c.Enter = func(*http.Request) (func(), error) {
			if entered.Add(1) > 3 {
				entered.Add(-1)
				return nil, inbox.ErrPayerFull
			}
			return func() { entered.Add(-1) }, nil
		}
	})
	bob, carol := s.hello(t, "bob"), s.dial(t)
	if open := s.Receivers()[inbox.WebSocket].Open; open != 1 {
		t.Errorf("got %d receivers, want 1", open)
	}
	bob.send("send 1 dave?wait=25 text x")
	waitFor(t, func() bool { return entered.Load() == 3 })
	bob.send("send 2 dave?wait=25 text x")
	bob.want(`fail 2 {.*payer-full.*}`)
	if _, status := s.tryDial(t, "/inbox"); status != 429 {
		t.Errorf("got %d over the limit, want 429", status)
	}
	bob.conn.Close()
	carol.conn.Close()
	waitFor(t, func() bool { return entered.Load() == 0 })
}

// waitFor waits until a condition holds.
func waitFor(t *testing.T, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(socketTimeout); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition does not hold")
		}
	}
}

// TestWebSocketIsThrottled checks that frames wait for tokens, and acknowledgements do not.
func TestWebSocketIsThrottled(t *testing.T) {
	var asked, refused, delayed atomic.Int64
	s := newSocketServer(t, func(c *inbox.Config, _ *inbox.Limits) {
		c.Throttle = func(*http.Request) (time.Duration, bool) {
			if asked.Add(1)%2 == 1 {
				refused.Add(1)
				return time.Millisecond, true
			}
			return 0, false
		}
		c.OnFrameDelay = func(d time.Duration) {
			if d < time.Millisecond {
				t.Errorf("a frame waited for %v, want 1ms or more", d)
			}
			delayed.Add(1)
		}
	})
	bob := s.hello(t, "bob", "after=")
	for i := range 3 {
		bob.send(fmt.Sprintf("send %d bob text x", i+1))
		id := bob.want(`msg (\d+) bob text x`)[0]
		bob.send("ack " + id)
		bob.want(`ok \d+`)
	}
	bob.send("ping")
	bob.want("pong")
	if got := refused.Load(); got != 4 || delayed.Load() != got {
		t.Errorf("%d frames waited for a token and %d were counted, want 4: the hello and three sends", got, delayed.Load())
	}
}

// TestWebSocketIsPaced checks that a frame that has its token waits for its turn only once.
func TestWebSocketIsPaced(t *testing.T) {
	var asked, delayed atomic.Int64
	s := newSocketServer(t, func(c *inbox.Config, _ *inbox.Limits) {
		c.Throttle = func(*http.Request) (time.Duration, bool) {
			asked.Add(1)
			return time.Millisecond, false
		}
		c.OnFrameDelay = func(time.Duration) { delayed.Add(1) }
	})
	bob := s.hello(t, "bob", "after=")
	bob.send("send 1 bob text x")
	bob.want(`msg \d+ bob text x`)
	if asked.Load() != 2 || delayed.Load() != 2 {
		t.Errorf("asked %d times for two frames, %d of them counted", asked.Load(), delayed.Load())
	}
}

func TestWebSocketSupersedesOtherTransports(t *testing.T) {
	s := newSocketServer(t, nil)
	answer := make(chan *httptest.ResponseRecorder)
	go func() { answer <- s.do("bob", "GET", "/inbox?after=", "") }()
	waitFor(t, func() bool { return s.Receivers()[inbox.LongPoll].Open == 1 })
	first := s.hello(t, "bob", "after=")
	if w := <-answer; w.Code != 204 || w.Header().Get("X-Poll-Ended") != "superseded" {
		t.Errorf("got %d, %v", w.Code, w.Header())
	}
	s.hello(t, "bob", "after=")
	first.want("end superseded")
	first.wantClose(4001)
}

// TestWebSocketLosesNothing sends while the receiver reconnects again and again.
func TestWebSocketLosesNothing(t *testing.T) {
	s := newSocketServer(t, func(c *inbox.Config, l *inbox.Limits) { l.Capacity, c.Capacity = 10000, 10000 })
	s.do("bob", "GET", "/inbox?wait=0", "")
	alice := s.hello(t, "alice")
	const total = 1000
	go func() {
		for i := range total {
			wsutil.WriteClientText(alice.conn, fmt.Appendf(nil, "send %d bob text %d", i+1, i))
		}
	}()
	go func() {
		for {
			if _, _, err := alice.next(); err != nil {
				return
			}
		}
	}()
	bob, after := s.hello(t, "bob", "after="), ""
	for i := range total {
		if i%50 == 49 {
			bob.conn.Close()
			bob = s.hello(t, "bob", "after="+after)
		}
		after = bob.want(fmt.Sprintf(`msg (\d+) alice text %d`, i))[0]
		if i%20 == 0 {
			bob.send("ack " + after)
		}
	}
}

// TestWebSocketMemoryOfMessages checks that incomplete messages count as bodies.
func TestWebSocketMemoryOfMessages(t *testing.T) {
	s := newSocketServer(t, func(c *inbox.Config, _ *inbox.Limits) { c.MaxInFlightBytes = 256 << 10 })
	bob := s.hello(t, "bob")
	var frame bytes.Buffer
	ws.WriteFrame(&frame, ws.MaskFrame(ws.NewTextFrame([]byte("send 1 bob text "+strings.Repeat("x", 1<<20)))))
	go bob.conn.Write(frame.Bytes())
	got, err := readFrame(bob) // wsutil does not know the code
	if err != nil || got.Header.OpCode != ws.OpClose || !bytes.HasPrefix(got.Payload, []byte{1013 >> 8, 1013 & 0xff}) {
		t.Errorf("got %v %q, %v, want a close frame with 1013", got.Header, got.Payload, err)
	}
}

// readFrame reads a frame of the server, of a bounded length.
func readFrame(r io.Reader) (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(r); err != nil {
		return f, err
	}
	if f.Header.Length > 2<<20 {
		return f, fmt.Errorf("a frame of %d bytes", f.Header.Length)
	}
	f.Payload = make([]byte, f.Header.Length)
	_, err = io.ReadFull(r, f.Payload)
	return f, err
}
