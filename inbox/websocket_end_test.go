package inbox_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"
)

// TestWebSocketBeginsWhileStopping checks that a WebSocket whose handshake crosses the stop of the
// server does not wait for its hello.
func TestWebSocketBeginsWhileStopping(t *testing.T) {
	var s *socketServer
	s = newSocketServer(t, func(c *inbox.Config, _ *inbox.Limits) {
		c.HelloTimeout = time.Hour
		c.Enter = func(*http.Request) (func(), error) {
			s.EndPolls()
			return func() {}, nil
		}
	})
	c := s.dial(t)
	c.want("end stopping")
	c.wantClose(1001)
}

// TestGoneClientWaitsForNoMemory checks that a receiver whose client hangs up ends while it waits
// for the budget of bodies.
func TestGoneClientWaitsForNoMemory(t *testing.T) {
	s := newSocketServer(t, func(c *inbox.Config, _ *inbox.Limits) {
		c.MaxInFlightBytes, c.Alive = 1<<20, inbox.Alive
		c.Payer = func(*http.Request) inbox.Payer { return inbox.Payer{Client: "all"} }
	})
	s.want(s.do("bob", "GET", "/inbox?wait=0", ""), 204, "")
	if _, err := s.store.Put(t.Context(), "bob", inbox.Message{From: "alice", Body: make([]byte, 200<<10)}, 0); err != nil {
		t.Fatal(err)
	}
	// A body that does not end takes the share of the client.
	rest, body := io.Pipe()
	r := request("carol", "POST", "/inbox?to=bob", "")
	r.Body, r.ContentLength = io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 150<<10)), rest)), 200<<10
	var posting sync.WaitGroup
	posting.Go(func() { s.ServeHTTP(httptest.NewRecorder(), r) })
	defer posting.Wait()
	defer body.Close()

	c := s.hello(t, "bob", "after=")
	open := func() int64 { return s.Receivers()[inbox.WebSocket].Open }
	if n := open(); n != 1 {
		t.Fatalf("got %d receivers, want 1", n)
	}
	time.Sleep(20 * time.Millisecond) // most likely it waits; the result must be the same otherwise
	c.conn.Close()
	for began := time.Now(); open() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > socketTimeout {
			t.Fatal("the receiver of a closed connection goes on")
		}
	}
}

// slowStore stores messages only when it is released.
type slowStore struct {
	inbox.Store
	began, release chan struct{}
}

func (s *slowStore) Put(_ context.Context, to string, m inbox.Message, _ time.Duration) (uint64, error) {
	close(s.began)
	<-s.release
	return s.Store.Put(context.Background(), to, m, 0)
}

// TestPendingSendIsAnsweredBeforeTheEnd checks that the sender of a message that was stored while
// the server stops learns it. Otherwise it would send the message twice.
func TestPendingSendIsAnsweredBeforeTheEnd(t *testing.T) {
	store := &slowStore{began: make(chan struct{}), release: make(chan struct{})}
	s := newSocketServer(t, func(c *inbox.Config, l *inbox.Limits) {
		store.Store = memstore.New(*l)
		c.Store = store
	})
	c := s.hello(t, "bob", "after=")
	c.send("send 1 bob?wait=20 text hello")
	<-store.began
	s.EndPolls()
	time.Sleep(50 * time.Millisecond) // until the connection is woken; the result must be the same otherwise
	close(store.release)
	c.want("ok 1")
	c.want("end stopping")
	c.wantClose(1001)
}
