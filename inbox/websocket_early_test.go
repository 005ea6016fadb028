package inbox_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/inbox/memstore"

	"github.com/gobwas/ws/wsutil"
)

// watchedStore counts the messages that are read in the goroutine of their sender.
type watchedStore struct {
	*memstore.Store
	early atomic.Int64
}

func (s *watchedStore) Next(ctx context.Context, c inbox.Claim, after uint64) (inbox.Message, error) {
	if bytes.Contains(debug.Stack(), []byte(".WokenEarly(")) {
		s.early.Add(1)
	}
	return s.Store.Next(ctx, c, after)
}

// TestMessageIsWrittenByItsSender checks that a message for a WebSocket that waits is written in
// the goroutine of its sender, unless the store is shared.
func TestMessageIsWrittenByItsSender(t *testing.T) {
	for _, shared := range []bool{false, true} {
		store := new(watchedStore)
		s := newSocketServer(t, func(c *inbox.Config, l *inbox.Limits) {
			store.Store = memstore.New(*l)
			c.Store, c.Shared = store, shared
		})
		bob, alice := s.hello(t, "bob"), s.hello(t, "alice")
		began := time.Now()
		for i := 1; i <= 30 || !shared && store.early.Load() == 0; i++ {
			alice.send(fmt.Sprintf("send %d bob text %d", i, i))
			bob.want(fmt.Sprintf(`msg \d+ alice text %d`, i))
			if time.Since(began) > socketTimeout/2 {
				t.Fatal("got no message that its sender has written")
			}
		}
		if n := store.early.Load(); shared && n > 0 {
			t.Errorf("got %d calls of a shared store in the goroutine of a sender", n)
		}
	}
}

// peerClient is a client that sends while it receives.
type peerClient struct {
	*socketClient
	name string
	mu   sync.Mutex // held while sending
	ref  int
}

// sendTo sends a message, which waits for its recipient if need be.
func (c *peerClient) sendTo(to, text string) error {
	c.ref++
	return c.write(fmt.Sprintf("send %d %s%s text %s", c.ref, to, []string{"", "?wait=25"}[c.ref%2], text))
}

func (c *peerClient) write(frame string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return wsutil.WriteClientText(c.conn, []byte(frame))
}

// receive reads until count messages of each sender have come, in order, and acknowledges them.
func (c *peerClient) receive(senders, count int) error {
	next := map[string]int{}
	for left := senders * count; left > 0; {
		frame, _, err := c.next()
		if err != nil {
			return err
		}
		if strings.HasPrefix(frame, "ok ") {
			continue
		}
		var id, from, kind string
		var n int
		if _, err := fmt.Sscanf(frame, "msg %s %s %s %d", &id, &from, &kind, &n); err != nil || n != next[from] {
			return fmt.Errorf("got %.100q, want message %d", frame, next[from])
		}
		next[from]++
		left--
		if err := c.write("ack " + id); err != nil {
			return err
		}
	}
	return nil
}

// TestPeersSendToEachOther has clients that send to one another and to themselves at once, over
// WebSockets and with POST: each message arrives once, and those of one sender in order.
func TestPeersSendToEachOther(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		s := newServerOver(t, scheme, func(c *inbox.Config, l *inbox.Limits) { l.Capacity, c.Capacity = 0, 0 })
		const count = 100
		names := []string{"ann", "bob", "cid"}
		var peers []*peerClient
		for _, name := range names {
			peers = append(peers, &peerClient{socketClient: s.hello(t, name, "after="), name: name})
		}
		var all sync.WaitGroup
		for _, p := range peers {
			all.Go(func() {
				if err := p.receive(len(names)+1, count); err != nil {
					t.Errorf("%s, %s: %v", scheme, p.name, err)
				}
			})
			all.Go(func() {
				for i := range len(names) * count {
					if err := p.sendTo(names[i%len(names)], fmt.Sprint(i/len(names), strings.Repeat(" x", i))); err != nil {
						t.Errorf("%s, %s: %v", scheme, p.name, err)
						return
					}
				}
			})
			all.Go(func() { postNumbers(s, "dan", p.name, count) })
		}
		all.Wait()
	}
}

// postNumbers posts count messages.
func postNumbers(s *socketServer, from, to string, count int) {
	for i := range count {
		if w := s.do(from, "POST", "/inbox?to="+to, fmt.Sprint(i), "Content-Type: text/plain"); w.Code != 200 {
			s.t.Errorf("got %d %s", w.Code, w.Body)
			return
		}
	}
}

// TestSlowReceiverDelaysNoSender sends more than the kernel has room for to a client that reads
// nothing yet. Its sender gets all answers before, and another client its messages.
func TestSlowReceiverDelaysNoSender(t *testing.T) {
	s := newSocketServer(t, func(c *inbox.Config, l *inbox.Limits) {
		l.Capacity, c.Capacity, c.WriteTimeout = 0, 0, socketTimeout
	})
	const count = 60
	padding := strings.Repeat("x", 12<<10)
	slow, alice, carol := s.hello(t, "slow"), s.hello(t, "alice"), s.hello(t, "carol")
	slow.conn.(*net.TCPConn).SetReadBuffer(32 << 10)
	for i := range count {
		alice.send(fmt.Sprintf("send %d slow text %d %s", 2*i+1, i, padding))
		alice.send(fmt.Sprintf("send %d carol text %d", 2*i+2, i))
		carol.want(fmt.Sprintf(`msg \d+ alice text %d`, i))
	}
	for stored := 0; stored < 2*count; {
		fmt.Sscan(alice.want(`ok (\d+)`)[0], &stored)
	}
	for i := range count {
		if _, rest, _ := strings.Cut(slow.want(`msg (.*)`)[0], " text "); rest != fmt.Sprint(i, " ", padding) {
			t.Fatalf("got %.20q, want message %d", rest, i)
		}
	}
}

// TestReceiversThatComeBack has clients that replace the connection of a name again and again,
// while others send to it: no message is missing, and none comes twice on one connection.
func TestReceiversThatComeBack(t *testing.T) {
	s := newSocketServer(t, func(c *inbox.Config, l *inbox.Limits) { l.Capacity, c.Capacity = 0, 0 })
	const senders, count = 3, 250
	s.do("bob", "GET", "/inbox?wait=0", "")
	var sending sync.WaitGroup
	for n := range senders {
		sending.Go(func() { postNumbers(s, fmt.Sprint("sender-", n), "bob", count) })
	}
	last, next := "", map[string]int{}
	for left, turn := senders*count, 0; left > 0; turn++ {
		bob := s.hello(t, "bob", "after="+last)
		for range min(left, turn%50) {
			m := bob.want(`msg (\d+) (\S+) text (\d+)`)
			if m[2] != fmt.Sprint(next[m[1]]) {
				t.Fatalf("got message %s of %s, want %d", m[2], m[1], next[m[1]])
			}
			next[m[1]]++
			last = m[0]
			left--
		}
		switch {
		case turn%3 == 0:
			bob.conn.Close()
		case turn%3 == 1 && last != "":
			bob.send("ack " + last) // the next one supersedes it meanwhile
		}
	}
	sending.Wait()
}
