package websocket

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var restRounds = flag.Int("rest-rounds", 40, "rounds of TestNothingIsLostAroundRest")

// relayHandler relays messages to a partner and answers them later, as a mailbox does: the partner
// is woken, and WakeAt schedules one answer for several messages.
type relayHandler struct {
	*recorder
	partner *relayHandler
	unread  atomic.Int64 // messages for this connection
	taken   int          // messages of its client
	okAt    time.Time    // when they are answered
}

const relayDelay = time.Millisecond

func (h *relayHandler) Message(Kind, []byte) {
	h.taken++
	h.partner.unread.Add(1)
	h.partner.conn.Wake()
	if h.okAt.IsZero() {
		h.okAt = time.Now().Add(relayDelay)
	}
	h.conn.WakeAt(h.okAt)
}

func (h *relayHandler) Woken() {
	if !h.okAt.IsZero() && !time.Now().Before(h.okAt) {
		h.okAt = time.Time{}
		h.conn.Write(Text, fmt.Appendf(nil, "ok %d", h.taken))
	}
	h.conn.WakeAt(h.okAt)
	for range h.unread.Swap(0) {
		h.conn.Write(Text, []byte("message"))
	}
}

// relayClient counts what it receives.
type relayClient struct {
	*testClient
	messages chan bool
	answered chan int
}

// read counts messages and answers until the connection ends.
func (c *relayClient) read() {
	for {
		first, payload, err := c.readFrame()
		var n int
		switch {
		case err != nil:
			return
		case first == fin|opPing:
			c.conn.Write(clientFrame(fin|opPong, ""))
		case payload == "message":
			c.messages <- true
		case strings.HasPrefix(payload, "ok "):
			fmt.Sscanf(payload, "ok %d", &n)
			c.answered <- n
		}
	}
}

// dialRelay connects two clients whose handlers are partners.
func dialRelay(t *testing.T, s *testServer, handlers chan *relayHandler) (clients [2]*relayClient) {
	var pair [2]*relayHandler
	for i := range clients {
		clients[i] = &relayClient{s.dial(t), make(chan bool, 100), make(chan int, 100)}
		pair[i] = <-handlers
	}
	pair[0].partner, pair[1].partner = pair[1], pair[0]
	for _, c := range clients {
		c.conn.SetDeadline(time.Time{})
		go c.read()
	}
	return clients
}

// burst sends messages in records that end anywhere, and waits for their answer and their arrival.
func (c *relayClient) burst(to *relayClient, n, sent int) error {
	var b []byte
	for range n {
		b = append(b, text("x")...)
	}
	cut := rand.IntN(len(b))
	for _, part := range [][]byte{b[:cut], b[cut:]} {
		if _, err := c.conn.Write(part); err != nil {
			return err
		}
	}
	timeout := time.After(testTimeout)
	for arrived, answered := 0, 0; arrived < n || answered < sent; {
		select {
		case <-to.messages:
			arrived++
		case answered = <-c.answered:
		case <-timeout:
			return fmt.Errorf("%d of %d messages arrived, %d of %d are answered", arrived, n, answered, sent)
		}
	}
	return nil
}

// TestNothingIsLostAroundRest sends bursts at about the time when connections begin to rest.
func TestNothingIsLostAroundRest(t *testing.T) {
	const pairs, rest = 8, 20 * time.Millisecond
	onTransports(t, func(t *testing.T, transport string) {
		handlers := make(chan *relayHandler, 1)
		config := Config{PingInterval: time.Hour, restAfter: rest}
		s := newTestServer(t, transport, config, func(c *Conn) Handler {
			h := &relayHandler{recorder: newRecorder(c)}
			handlers <- h
			return h
		})
		var running sync.WaitGroup
		for range pairs {
			clients := dialRelay(t, s, handlers)
			running.Go(func() {
				var sent [2]int
				for range *restRounds {
					time.Sleep(rest - rest/20 + rand.N(rest/10))
					from, n := rand.IntN(2), 1+rand.IntN(3)
					sent[from] += n
					if err := clients[from].burst(clients[1-from], n, sent[from]); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		running.Wait()
	})
}
