package peerjs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/quota"

	"github.com/gobwas/ws"
)

// TestOrigins checks that a list of origins narrows the WebSocket as well.
func TestOrigins(t *testing.T) {
	c := testConfig()
	c.Origins = []string{"https://a.example"}
	s := serve(t, c)
	for origin, want := range map[string]bool{"https://a.example": true, "": true, "https://b.example": false, "null": false} {
		header := ws.HandshakeHeaderHTTP{}
		if origin != "" {
			header = ws.HandshakeHeaderHTTP{"Origin": {origin}}
		}
		conn, _, _, err := ws.Dialer{Header: header, Timeout: wait}.Dial(t.Context(), s.url+"/peerjs?key=k&id=x"+fmt.Sprint(len(origin))+"&token=t")
		if (err == nil) != want {
			t.Errorf("Origin %q: got error %v", origin, err)
		}
		if err == nil {
			conn.Close()
		}
	}
}

// TestPreflight has browsers ask whether a page can use a route.
func TestPreflight(t *testing.T) {
	for _, row := range []struct {
		origins []string
		allowed string // Access-Control-Allow-Origin
	}{{nil, "*"}, {[]string{"https://a.example"}, "https://a.example"}, {[]string{"https://b.example"}, ""}} {
		c := testConfig()
		c.Origins = row.origins
		h := New(c)
		for _, path := range []string{"/peerjs/id", "/peerjs/", "/peerjs/other/peers"} {
			r := httptest.NewRequest(http.MethodOptions, path, nil)
			r.Header.Set("Origin", "https://a.example")
			r.Header.Set("Access-Control-Request-Method", "GET")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			header := w.Header()
			if w.Code != 204 || header.Get("Access-Control-Allow-Origin") != row.allowed ||
				(header.Get("Access-Control-Allow-Headers") != "") != (row.allowed != "") || header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s for %v: got %d %v", path, row.origins, w.Code, header)
			}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/peerjs/id", nil))
		if w.Code != 405 || w.Header().Get("Allow") == "" {
			t.Errorf("POST: got %d %v", w.Code, w.Header())
		}
	}
}

// TestThrottle checks that frames over the rate are read later, that heartbeats are free up to a
// rate, and that no frame says so.
func TestThrottle(t *testing.T) {
	c := testConfig()
	var tokens, asked atomic.Int64
	tokens.Store(3)
	c.Throttle = func(*http.Request) (time.Duration, bool) {
		asked.Add(1)
		if tokens.Add(-1) < 0 {
			tokens.Store(0)
			return 10 * time.Millisecond, true
		}
		return 0, false
	}
	s := serve(t, c)
	x := s.open("x", "t", "192.0.2.1")
	x.send(`{"type":"HEARTBEAT"}`)
	for i := range 6 {
		x.message("OFFER", "x", fmt.Sprint(i))
	}
	for i := range 3 {
		x.expectFrom("OFFER", "x", fmt.Sprint(i))
	}
	s.await("wait for a token", func() bool { return asked.Load() > 5 })
	tokens.Store(100)
	for i := 3; i < 6; i++ {
		x.expectFrom("OFFER", "x", fmt.Sprint(i))
	}
}

// refusing is a guard that refuses attempts of one kind, a number of times.
type refusing struct {
	noGuard
	kind inbox.Attempt
	left atomic.Int64
}

var errRefused = errors.New("refused")

func (g *refusing) Reserve(_ *http.Request, a inbox.Attempt, _ string) (bool, error) {
	if a == g.kind && g.left.Add(-1) >= 0 {
		return false, errRefused
	}
	return false, nil
}

func (g *refusing) Allow(_ *http.Request, a inbox.Attempt, _ string) error {
	if a == inbox.UnknownRecipient && a == g.kind && g.left.Add(-1) >= 0 {
		return errRefused
	}
	return nil
}

func TestGuard(t *testing.T) {
	for _, row := range []struct {
		name string
		kind inbox.Attempt
		n    int64
		test func(s *testServer)
	}{
		{"a new id waits for its turn", inbox.NewName, 2, func(s *testServer) { s.open("x", "t", "a") }},
		{"a new id without a turn is refused", inbox.NewName, 1 << 30, func(s *testServer) {
			s.dial("x", "t", "a").expect(string(errorFrame(errTooMany)))
		}},
		{"too many wrong tokens: the id is taken, without a ping", inbox.PasswordGuess, 1 << 30, func(s *testServer) {
			x := s.open("x", "t", "a")
			x.deaf.Store(true)
			s.dial("x", "another", "a").expect(string(idTakenFrame))
			s.open("x", "t", "a")
		}},
		{"too many absent ids: frames are read later", inbox.UnknownRecipient, 2, func(s *testServer) {
			x := s.open("x", "t", "a")
			x.message("OFFER", "nobody", `1`)
			x.expectFrom("EXPIRE", "nobody", "")
			x.expectNothing()
			if left := s.Guard.(*refusing).left.Load(); left >= 0 {
				s.t.Errorf("the guard would refuse %d more", left)
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c, g := testConfig(), &refusing{kind: row.kind}
			g.left.Store(row.n)
			c.Guard = g
			s := serve(t, c)
			s.timing.id = 3 * time.Second
			row.test(s)
		})
	}
}

// TestFull has refusals by the store.
func TestFull(t *testing.T) {
	for _, row := range []struct {
		err  error
		want string
	}{{inbox.ErrTooManyInboxes, errFull}, {&quota.Error{Limit: "inboxes"}, errPayerFull}} {
		c := testConfig()
		c.Store = failingStore{c.Store, row.err}
		s := serve(t, c)
		x := s.dial("x", "t", "a")
		x.expect(string(errorFrame(row.want)))
		x.expectEnd()
	}
}

// failingStore claims nothing.
type failingStore struct {
	inbox.Store
	err error
}

func (s failingStore) Open(ctx context.Context, name string, key inbox.Key, p *inbox.Payer) (inbox.Claim, error) {
	if p != nil {
		return inbox.Claim{}, s.err
	}
	return s.Store.Open(ctx, name, key, p)
}

// TestLargeFrame checks that a frame over the limit ends its connection alone.
func TestLargeFrame(t *testing.T) {
	s := serve(t, testConfig())
	x, y := s.open("x", "t1", "a"), s.open("y", "t2", "b")
	x.message("OFFER", "y", `"`+strings.Repeat("a", MinMessageBytes-100)+`"`)
	y.next()
	x.message("OFFER", "y", `"`+strings.Repeat("a", MinMessageBytes)+`"`)
	x.expectEnd()
	if code := x.code.Load(); code != 1009 {
		t.Errorf("got code %d, want 1009", code)
	}
	y.expectNothing()
}

// TestAbsentFlood has clients send to 100,000 ids that are absent. What waits for them is bounded,
// and nothing is left.
func TestAbsentFlood(t *testing.T) {
	c := testConfig()
	c.MaxWaitingBytes = 4 << 20
	s := serve(t, c)
	s.timing.absent = wait
	before := goroutines()
	var clients []*client
	for i := range 20 {
		clients = append(clients, s.open(fmt.Sprint("x", i), "t", fmt.Sprint("address-", i%4)))
	}
	payload := `"` + strings.Repeat("a", 1000) + `"`
	for i := range 100_000 {
		clients[i%len(clients)].message("OFFER", fmt.Sprint("absent-", i), payload)
	}
	for _, x := range clients {
		x.message("CANDIDATE", x.id, `1`)
		for !strings.Contains(x.next(), `"CANDIDATE"`) { // EXPIRE before it
		}
	}
	queues, bytes := s.waiting.queues.Load(), s.waiting.bytes.Load()
	if most := int64(len(clients) * maxQueues); queues == 0 || queues > most || bytes > c.MaxWaitingBytes {
		t.Errorf("got %d queues with %d bytes, want at most %d", queues, bytes, most)
	}
	for _, x := range clients {
		x.leave()
	}
	s.await("end of the queues", func() bool { return s.waiting.queues.Load() == 0 && s.waiting.bytes.Load() == 0 })
	s.await("end of the goroutines", func() bool { return goroutines() <= before+2 })
}

func goroutines() int { return runtime.NumGoroutine() }

// TestStats checks the numbers of a handler.
func TestStats(t *testing.T) {
	s := serve(t, testConfig())
	x := s.open("x", "t", "a")
	s.dial("x", "another", "a").expect(string(idTakenFrame))
	s.dialPath("/peerjs?id=y", "a").expect(string(errorFrame(errNothing)))
	x.message("OFFER", "nobody", `1`)
	x.expectFrom("EXPIRE", "nobody", "")
	x.send("junk")
	x.expectNothing()
	s.await("the end of the others", func() bool { return s.Stats().Open == 1 })
	got := s.Stats()
	if got.IDs != 1 || got.AbsentIDs != 0 || got.WaitingBytes != 0 {
		t.Errorf("got %+v", got)
	}
	for kind, want := range map[string]int64{"open": 1, "id-taken": 1, "error": 1, "expire": 1} {
		if got.Answers[kind] != want {
			t.Errorf("got %d answers %s, want %d", got.Answers[kind], kind, want)
		}
	}
	for kind, want := range map[string]int64{"offer": 1, "candidate": 1, "other": 1} {
		if got.Frames[kind] != want {
			t.Errorf("got %d frames %s, want %d", got.Frames[kind], kind, want)
		}
	}
}

// TestUnavailable has a client connect while the store is not available.
func TestUnavailable(t *testing.T) {
	c := testConfig()
	store := &flakyStore{Store: c.Store}
	store.failures.Store(2)
	c.Store = store
	s := serve(t, c)
	s.timing.store = wait
	s.open("x", "t", "a").expectNothing()
	store.failures.Store(1 << 30)
	s.timing.store = time.Millisecond
	resp, body := s.get("/peerjs?key=k&id=y&token=t", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "urn:inbox:problem:store-unavailable") {
		t.Errorf("got %s %v %s", resp.Status, resp.Header, body)
	}
}

// flakyStore fails to open mailboxes a number of times.
type flakyStore struct {
	inbox.Store
	failures atomic.Int64
}

func (s *flakyStore) Open(ctx context.Context, name string, key inbox.Key, p *inbox.Payer) (inbox.Claim, error) {
	if s.failures.Add(-1) >= 0 {
		return inbox.Claim{}, inbox.ErrStoreUnavailable
	}
	return s.Store.Open(ctx, name, key, p)
}
