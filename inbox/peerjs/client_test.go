package peerjs

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
	"inbox/internal/netconn"

	"github.com/gobwas/ws"
)

// wait is how long tests wait for what must happen.
const wait = 30 * time.Second

// testServer is a handler behind a listener.
type testServer struct {
	t *testing.T
	*Handler
	url   string // ws://…
	crash func() // ends the connection to the store, which then has what a crash leaves
}

// shortTiming makes tests fast. The probe and the ask are long enough for a busy machine.
var shortTiming = timing{grace: 3 * time.Second, probe: time.Second, absent: time.Second, ask: 2 * time.Second, ack: 2 * time.Second}

func testConfig() Config {
	return Config{
		Store:  memstore.New(inbox.Limits{Timeout: time.Minute, Capacity: 100, MaxInboxes: 1000}),
		Secret: []byte("a secret of the tests"), MaxMessageBytes: MinMessageBytes, MaxWaitingBytes: 8 << 20,
		MessageTimeout: wait, WriteTimeout: wait,
		// A test gives its clients addresses in a field.
		ClientFields: []string{"X-Address"},
		Payer:        func(r *http.Request) inbox.Payer { return inbox.Payer{Client: r.Header.Get("X-Address")} },
	}
}

// serve starts a handler with a configuration.
func serve(t *testing.T, c Config) *testServer {
	t.Helper()
	h := New(c)
	h.timing = shortTiming
	server := httptest.NewUnstartedServer(h)
	server.Listener = netconn.FetchListener(server.Listener)
	server.Start()
	t.Cleanup(func() {
		h.Stop(1001)
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		if err := h.Wait(ctx); err != nil {
			t.Errorf("the connections do not end: %v", err)
		}
		server.Close()
	})
	return &testServer{t: t, Handler: h, url: "ws" + strings.TrimPrefix(server.URL, "http")}
}

// get returns the response to a request.
func (s *testServer) get(path string, header ...string) (*http.Response, string) {
	s.t.Helper()
	r, _ := http.NewRequest("GET", "http"+strings.TrimPrefix(s.url, "ws")+path, nil)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(body)
}

// client is a client whose frames arrive in a channel.
type client struct {
	t      *testing.T
	id     string
	conn   net.Conn
	frames chan string // closed with the connection
	code   atomic.Int32
	deaf   atomic.Bool // answers nothing: the line is dead
	noPong atomic.Bool

	mu    sync.Mutex
	pings [][]byte
}

// dial connects as a client with an id and a token, from an address.
func (s *testServer) dial(id, token, addr string) *client {
	s.t.Helper()
	q := url.Values{"key": {"peerjs"}, "id": {id}, "token": {token}, "version": {"1.5.5"}}
	return s.dialPath("/peerjs?"+q.Encode(), addr)
}

func (s *testServer) dialPath(path, addr string) *client {
	s.t.Helper()
	d := ws.Dialer{Header: ws.HandshakeHeaderHTTP{"X-Address": {addr}}, Timeout: wait}
	conn, br, _, err := d.Dial(context.Background(), s.url+path)
	if err != nil {
		s.t.Fatal(err)
	}
	if br == nil {
		br = bufio.NewReader(conn)
	}
	u, _ := url.Parse(path)
	c := &client{t: s.t, id: u.Query().Get("id"), conn: conn, frames: make(chan string, 10_000)}
	go c.read(br)
	s.t.Cleanup(func() { conn.Close() })
	return c
}

// open is dial, and expects an OPEN.
func (s *testServer) open(id, token, addr string) *client {
	s.t.Helper()
	c := s.dial(id, token, addr)
	c.expect(`{"type":"OPEN"}`)
	return c
}

func (c *client) read(br *bufio.Reader) {
	defer close(c.frames)
	for {
		h, err := ws.ReadHeader(br)
		if err != nil {
			return
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(br, payload); err != nil {
			return
		}
		switch {
		case c.deaf.Load():
		case h.OpCode == ws.OpText:
			c.frames <- string(payload)
		case h.OpCode == ws.OpPing:
			c.mu.Lock()
			c.pings = append(c.pings, payload)
			c.mu.Unlock()
			if !c.noPong.Load() {
				c.write(ws.OpPong, payload)
			}
		case h.OpCode == ws.OpClose:
			code, _ := ws.ParseCloseFrameData(payload)
			c.code.Store(int32(code))
			c.write(ws.OpClose, payload)
			c.conn.Close()
			return
		}
	}
}

func (c *client) write(op ws.OpCode, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := ws.MaskFrameInPlace(ws.NewFrame(op, true, append([]byte(nil), payload...)))
	_ = ws.WriteFrame(c.conn, f) // the connection can be closed
}

// send sends a frame.
func (c *client) send(text string) { c.write(ws.OpText, []byte(text)) }

// message sends a frame of a type to a peer.
func (c *client) message(kind, dst, payload string) {
	to, _ := json.Marshal(dst)
	c.send(`{"type":"` + kind + `","payload":` + payload + `,"dst":` + string(to) + `}`)
}

// next returns the next frame, "" if the connection has ended.
func (c *client) next() string {
	c.t.Helper()
	select {
	case text := <-c.frames:
		return text
	case <-time.After(wait):
		c.t.Fatalf("%s: nothing arrives", c.id)
		return ""
	}
}

// expect fails the test if another frame than this one arrives.
func (c *client) expect(want string) {
	c.t.Helper()
	if got := c.next(); got != want {
		c.t.Fatalf("%s: got %q, want %q", c.id, got, want)
	}
}

// expectFrom expects a frame with these members, in any order.
func (c *client) expectFrom(kind, src, payload string) {
	c.t.Helper()
	text := c.next()
	var got struct {
		Type, Src, Dst string
		Payload        json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || got.Type != kind || got.Src != src || got.Dst != c.id || string(got.Payload) != payload {
		c.t.Fatalf("%s: got %s, want a frame %s from %s with %s", c.id, text, kind, src, payload)
	}
}

// expectEnd expects the end of the connection.
func (c *client) expectEnd() {
	c.t.Helper()
	if text := c.next(); text != "" {
		c.t.Fatalf("%s: got %q, want the end", c.id, text)
	}
}

// expectNothing sends a frame to itself, and expects no other frame before it.
func (c *client) expectNothing() {
	c.t.Helper()
	c.message("CANDIDATE", c.id, `"nothing"`)
	c.expectFrom("CANDIDATE", c.id, `"nothing"`)
}

// leave ends the connection with a close frame, and waits for that of the server.
func (c *client) leave() {
	c.t.Helper()
	c.write(ws.OpClose, nil)
	for c.next() != "" {
	}
}

// hangUp ends the connection without a close frame.
func (c *client) hangUp() { c.conn.Close() }

// awaitLost waits until the server has noticed that the connection of an id has ended.
func (s *testServer) awaitLost(id string) {
	s.t.Helper()
	s.await("the loss of "+id, func() bool {
		holder := s.holder(id)
		return holder == nil || !holder.owner().lost.IsZero()
	})
}

// awaitFree waits until an id has no holder.
func (s *testServer) awaitFree(id string) {
	s.t.Helper()
	s.await("the end of "+id, func() bool { return s.holder(id) == nil })
}

func (s *testServer) holder(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holders[id]
}

func (s *testServer) await(what string, isDone func() bool) {
	s.t.Helper()
	for by := time.Now().Add(wait); !isDone(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(by) {
			s.t.Fatalf("no %s", what)
		}
	}
}
