package attack

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// peerjsFlood opens connections of PeerJS clients from several addresses. Each sends offers to ids
// that are absent, junk, and a frame of 8 MiB at last, and reads nothing. The server must keep its
// memory, and serve a pair of good clients meanwhile.
func peerjsFlood(conns, frames int, d time.Duration) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		bob, err := s.dialPeer(ctx, clientAddr, "bob")
		if err != nil {
			s.fail("good client: %v", err)
			return
		}
		defer bob.CloseNow()
		done := make(chan struct{})
		go func() {
			defer close(done)
			parallel(conns, conns, func(i int) { s.floodPeer(ctx, i, frames, d) })
		}()
		rounds, slowest := 0, time.Duration(0)
		for over := false; !over; rounds++ {
			began := time.Now()
			if err := echoPeer(ctx, bob); err != nil {
				s.fail("good client: %v", err)
				break
			}
			slowest = max(slowest, time.Since(began))
			select {
			case <-done:
				over = true
			case <-time.After(250 * time.Millisecond):
			}
		}
		<-done
		s.addFigure("%d connections with %d frames each, %d echoes of a good client, the slowest took %.0f ms",
			conns, frames, rounds, slowest.Seconds()*1000)
	}
}

// floodPeer is one client of the flood. Its connection can be refused or closed.
func (s *scenario) floodPeer(ctx context.Context, i, frames int, d time.Duration) {
	c, err := s.dialPeer(ctx, attackerAddr(i/50), fmt.Sprint("flood-", i))
	if err != nil {
		return
	}
	defer c.CloseNow()
	ctx, cancel := context.WithTimeout(ctx, d) // the server reads later
	defer cancel()
	payload := bytes.Repeat([]byte("a"), 2000)
	for n := range frames {
		text := fmt.Appendf(nil, `{"type":"OFFER","dst":"absent-%d-%d","payload":"%s"}`, i, n, payload)
		if n%10 == 9 {
			text = payload
		}
		if c.Write(ctx, websocket.MessageText, text) != nil {
			return
		}
	}
	_ = c.Write(ctx, websocket.MessageText, make([]byte, 8<<20)) // ends with 1009
}

// dialPeer connects from an address as a client of PeerJS.
func (s *scenario) dialPeer(ctx context.Context, from, id string) (*websocket.Conn, error) {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dialTCP(ctx, from) },
	}}
	c, _, err := websocket.Dial(ctx, "ws://"+s.addr+"/peerjs?key=peerjs&token=t&id="+id, &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return nil, err
	}
	if _, text, err := c.Read(ctx); err != nil || string(text) != `{"type":"OPEN"}` {
		c.CloseNow()
		return nil, fmt.Errorf("got %q, %v, want OPEN", text, err)
	}
	return c, nil
}

// echoPeer sends a frame to its sender.
func echoPeer(ctx context.Context, c *websocket.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte(`{"type":"OFFER","dst":"bob","payload":1}`)); err != nil {
		return err
	}
	_, _, err := c.Read(ctx)
	return err
}
