package peerjs

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"inbox/inbox"

	"github.com/gobwas/ws"
)

// TestRaces has clients that want one id at the same time.
func TestRaces(t *testing.T) {
	const a, b, elsewhere = "192.0.2.1", "192.0.2.2", "192.0.2.3"
	for _, row := range []struct {
		name string
		test func(s *testServer)
	}{
		{"a free id: one of many tokens gets it", func(s *testServer) {
			clients := s.dialMany(20, func(i int) string { return fmt.Sprint("t", i) })
			winner := s.winner(clients)
			winner.expectNothing()
		}},
		{"an id whose line is dead: one of many tokens gets it", func(s *testServer) {
			s.open("x", "t", a).deaf.Store(true)
			s.winner(s.dialMany(20, func(i int) string { return fmt.Sprint("t", i) })).expectNothing()
		}},
		{"an id whose line was lost: one of many tokens of its address gets it", func(s *testServer) {
			s.open("x", "t", elsewhere).hangUp()
			s.awaitLost("x")
			s.winner(s.dialMany(20, func(i int) string { return fmt.Sprint("t", i) })).expectNothing()
		}},
		{"many connections with one token: all get OPEN, and one stays", func(s *testServer) {
			clients := s.dialMany(20, func(int) string { return "t" })
			ended := 0
			for _, c := range clients {
				c.expect(string(openFrame))
			}
			y := s.open("y", "t2", b)
			s.await("end of the others", func() bool { return s.conns.Len() == 2 })
			y.message("OFFER", "x", `1`)
			for _, c := range clients {
				if text := c.next(); text == "" {
					ended++
				} else {
					c.message("ANSWER", "y", `2`)
				}
			}
			if ended != len(clients)-1 {
				s.t.Errorf("%d of %d connections ended", ended, len(clients))
			}
			y.expectFrom("ANSWER", "x", `2`)
		}},
		{"a pong of another ping, or before any, acknowledges nothing", func(s *testServer) {
			x, y := s.open("x", "t1", a), s.open("y", "t2", b)
			x.noPong.Store(true)
			x.write(ws.OpPong, make([]byte, 8))
			y.message("OFFER", "x", `1`)
			x.expectFrom("OFFER", "y", `1`)
			s.await("a ping", func() bool { return x.lastPing() != nil })
			id := binary.BigEndian.Uint64(x.lastPing())
			for _, payload := range [][]byte{nil, {1}, make([]byte, 125), binary.BigEndian.AppendUint64(nil, id+1), binary.BigEndian.AppendUint64(nil, id-1),
				binary.LittleEndian.AppendUint64(nil, id), binary.BigEndian.AppendUint64(nil, 1<<64-1)} {
				x.write(ws.OpPong, payload)
			}
			x.message("CANDIDATE", "y", `2`) // behind the pongs
			y.expectFrom("CANDIDATE", "x", `2`)
			x.hangUp()
			s.awaitLost("x")
			x = s.open("x", "t1", elsewhere)
			x.expectFrom("OFFER", "y", `1`)
			x.expectNothing()
		}},
		{"a pong that repeats an earlier ID acknowledges nothing", func(s *testServer) {
			x, y := s.open("x", "t1", a), s.open("y", "t2", b)
			y.message("OFFER", "x", `1`)
			x.expectFrom("OFFER", "y", `1`)
			s.await("the end of the mail", func() bool {
				_, err := s.Store.Next(context.Background(), s.holder("x").claim, 0)
				return err == inbox.ErrEmpty
			})
			x.noPong.Store(true)
			old := x.lastPing()
			y.message("OFFER", "x", `2`)
			x.expectFrom("OFFER", "y", `2`)
			x.write(ws.OpPong, old)
			x.message("CANDIDATE", "y", `3`)
			y.expectFrom("CANDIDATE", "x", `3`)
			x.hangUp()
			s.awaitLost("x")
			s.open("x", "t1", elsewhere).expectFrom("OFFER", "y", `2`)
		}},
		{"a claim that ends under a connection is made again", func(s *testServer) {
			x, y := s.open("x", "t1", a), s.open("y", "t2", b)
			claim := s.holder("x").claim
			if err := s.Store.Close(context.Background(), claim); err != nil {
				s.t.Error(err)
			}
			s.await("another claim", func() bool { h := s.holder("x"); return h != nil && h.isClaimed(claim) })
			y.message("OFFER", "x", `1`)
			x.expectFrom("OFFER", "y", `1`)
			s.dial("x", "another", a).expect(string(idTakenFrame))
			x.hangUp()
			s.awaitFree("x")
			s.open("x", "another", elsewhere)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			row.test(serve(t, testConfig()))
		})
	}
}

// isClaimed reports whether a session has a later claim than this one.
func (s *session) isClaimed(before inbox.Claim) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claim.Epoch != before.Epoch
}

// dialMany connects clients that want the id x, at the same time.
func (s *testServer) dialMany(n int, token func(i int) string) []*client {
	s.t.Helper()
	clients := make([]*client, n)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() { clients[i] = s.dial("x", token(i), "192.0.2.3") })
	}
	wg.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}
	return clients
}

// winner returns the one client that got an OPEN. The id is taken for the others.
func (s *testServer) winner(clients []*client) (winner *client) {
	s.t.Helper()
	for _, c := range clients {
		switch text := c.next(); {
		case text == string(openFrame) && winner == nil:
			winner = c
		case text != string(idTakenFrame):
			s.t.Errorf("got %q", text)
		}
	}
	if winner == nil {
		s.t.Fatal("no client got the id")
	}
	return winner
}

// lastPing returns the payload of the last ping, nil without one.
func (c *client) lastPing() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pings) == 0 {
		return nil
	}
	return c.pings[len(c.pings)-1]
}

// TestEvictionRace has a client come back while the time of its id is over: it must keep what it
// gets.
func TestEvictionRace(t *testing.T) {
	c := testConfig()
	store := &slowClose{Store: c.Store, began: make(chan struct{}, 1), end: make(chan struct{})}
	c.Store = store
	arrived := make(chan struct{}, 2)
	c.Payer = func(*http.Request) inbox.Payer {
		arrived <- struct{}{}
		return inbox.Payer{}
	}
	s := serve(t, c)
	x := s.open("x", "t1", "a")
	<-arrived
	x.leave()
	<-store.began
	opened := make(chan *client)
	go func() { opened <- s.dial("x", "t2", "a") }()
	<-arrived
	time.Sleep(100 * time.Millisecond) // until it waits; if it comes later, the test shows less
	close(store.end)
	x = <-opened
	x.expect(string(openFrame))
	x.expectNothing()
}

// slowClose is a store whose Close takes until a channel is closed.
type slowClose struct {
	inbox.Store
	began, end chan struct{}
}

func (s *slowClose) Close(ctx context.Context, c inbox.Claim) error {
	s.began <- struct{}{}
	<-s.end
	return s.Store.Close(ctx, c)
}
