package topics

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"inbox/inbox"

	"github.com/gobwas/ws"
)

type nobody struct{ n int }

func (*nobody) Deliver([]byte) {}

func TestMemoryLimits(t *testing.T) {
	alice, bob := inbox.Payer{Client: "alice"}, inbox.Payer{Client: "bob"}
	id := func(n int) ID { return NewID(YWebRTC, fmt.Sprint(n)) }
	join := func(m *Memory, topic int, p inbox.Payer, times int) (err error) {
		for range times {
			if err = m.Join(id(topic), p, &nobody{}); err != nil {
				return err
			}
		}
		return nil
	}
	t.Run("members of a topic", func(t *testing.T) {
		m := NewMemory(Limits{MaxMembers: 3})
		if err := join(m, 1, alice, 3); err != nil {
			t.Error(err)
		}
		if err := join(m, 1, bob, 1); !errors.Is(err, ErrTopicFull) {
			t.Errorf("got %v, want ErrTopicFull", err)
		}
		if err := join(m, 2, bob, 1); err != nil {
			t.Errorf("another topic: %v", err)
		}
		if topics, members := m.Len(); topics != 2 || members != 4 {
			t.Errorf("got %d topics, %d members, want 2 and 4", topics, members)
		}
	})
	t.Run("default", func(t *testing.T) {
		m := NewMemory(Limits{})
		if err := join(m, 1, inbox.Payer{}, DefaultMaxMembers+1); !errors.Is(err, ErrTopicFull) {
			t.Errorf("got %v, want ErrTopicFull", err)
		}
	})
	t.Run("a payer leaves room in a topic to others", func(t *testing.T) {
		m := NewMemory(Limits{})
		fill := func(payer func(i int) inbox.Payer) (n int) {
			for m.Join(id(1), payer(n), &nobody{}) == nil {
				n++
			}
			return n
		}
		if n := fill(func(int) inbox.Payer { return alice }); n < 100 || n > DefaultMaxMembers/4 {
			t.Errorf("one payer is %d of %d members, want about a fifth", n, DefaultMaxMembers)
		}
		network := func(i int) inbox.Payer { return inbox.Payer{Client: fmt.Sprint(i), Network: "2001:db8::/48"} }
		if n := fill(network); n < 100 || n > DefaultMaxMembers/2 {
			t.Errorf("one network is %d of %d members, want a share", n, DefaultMaxMembers)
		}
		if err := join(m, 1, bob, 3); err != nil {
			t.Errorf("another payer: %v", err)
		}
		if err := join(m, 2, alice, 1); err != nil {
			t.Errorf("another topic: %v", err)
		}
	})
	t.Run("members of a payer", func(t *testing.T) {
		m := NewMemory(Limits{MaxPerPayer: 2})
		if err := join(m, 1, alice, 3); !errors.Is(err, inbox.ErrPayerFull) {
			t.Errorf("got %v, want ErrPayerFull", err)
		}
		if err := join(m, 1, bob, 2); err != nil {
			t.Errorf("another payer: %v", err)
		}
		if _, members := m.Len(); members != 4 {
			t.Errorf("got %d members, want 4", members)
		}
	})
	t.Run("all members", func(t *testing.T) {
		m := NewMemory(Limits{MaxTotal: 8})
		if err := join(m, 1, inbox.Payer{}, 8); err != nil {
			t.Error(err)
		}
		if err := join(m, 2, bob, 1); !errors.Is(err, ErrFull) {
			t.Errorf("got %v, want ErrFull", err)
		}
	})
	t.Run("a payer leaves some to others", func(t *testing.T) {
		m := NewMemory(Limits{MaxTotal: 4096})
		n := 0
		for ; m.Join(id(n), alice, &nobody{}) == nil; n++ {
		}
		if n < 256 || n > 2048 {
			t.Errorf("one payer joined %d of 4096 topics, want its share", n)
		}
		if err := join(m, 1, bob, 100); err != nil {
			t.Errorf("another payer: %v", err)
		}
	})
	t.Run("who leaves pays no longer", func(t *testing.T) {
		m := NewMemory(Limits{MaxPerPayer: 1})
		for range 3 {
			member := &nobody{}
			if err := m.Join(id(1), alice, member); err != nil {
				t.Fatal(err)
			}
			m.Leave(id(1), &nobody{1}) // another one
			m.Leave(id(2), member)
			m.Leave(id(1), member)
			m.Leave(id(1), member)
		}
		if topics, members := m.Len(); topics != 0 || members != 0 {
			t.Errorf("got %d topics, %d members, want none", topics, members)
		}
	})
}

// TestRefusedSubscriptions checks that a refusal is told, counted, and ends nothing.
func TestRefusedSubscriptions(t *testing.T) {
	const subscribe, publish = `{"type":"subscribe","topics":["a","b","c"]}`, `{"type":"publish","topic":"a"}`
	for _, tt := range []struct {
		limit  string
		config Config
		limits Limits
	}{
		{"topics-per-connection", Config{MaxTopics: 2}, Limits{}},
		{"topics-per-address", Config{Enter: (&testClient{payer: inbox.Payer{Client: "a"}}).enter}, Limits{MaxPerPayer: 2}},
		{"topics", Config{}, Limits{MaxTotal: 2}},
	} {
		t.Run(tt.limit, func(t *testing.T) {
			s := newTestServer(t, tt.config, tt.limits)
			c := s.dial(t)
			c.send(subscribe)
			var refused errorFrame
			if text := c.receive(); json.Unmarshal([]byte(text), &refused) != nil || refused.Type != "error" || refused.Limit != tt.limit || refused.Detail == "" {
				t.Errorf("got %s, want an error about %s", text, tt.limit)
			}
			c.send(publish)
			if got := c.receive(); !strings.Contains(got, `"clients":1`) {
				t.Errorf("got %s, want the frame", got)
			}
			if got := s.Stats(); got.Refused[tt.limit] != 1 || got.Members != 2 {
				t.Errorf("got %v refused and %d members, want one and 2", got.Refused, got.Members)
			}
		})
	}
	t.Run("members-per-topic", func(t *testing.T) {
		s := newTestServer(t, Config{}, Limits{MaxMembers: 1})
		a, b := s.dial(t), s.dial(t)
		a.send(`{"type":"subscribe","topic":"t"}`)
		a.sync()
		b.send(`{"type":"subscribe","topic":"t"}`)
		if got := b.receive(); !strings.Contains(got, `"members-per-topic"`) {
			t.Errorf("got %s, want an error", got)
		}
	})
}

func TestTokens(t *testing.T) {
	of := &testClient{}
	s := newTestServer(t, Config{Enter: of.enter}, Limits{})
	long := strings.Repeat("x", 3*tokenBytes)
	var members []*client
	for range 2 * membersPerToken {
		c := s.dial(t)
		c.send(`{"type":"subscribe","topics":["room"]}`)
		c.sync()
		members = append(members, c)
	}
	for _, tt := range []struct {
		name, text      string
		frames, charged int64
	}{
		{"ping is free", `{"type":"ping"}`, 0, 0},
		{"once a second", `{"type":"ping"}`, 1, 0},
		{"a topic", `{"type":"subscribe","topics":["a"]}`, 1, 0},
		{"each topic", `{"type":"subscribe","topics":["b","c","d"]}`, 1, 2},
		{"topics that it has", `{"type":"subscribe","topics":["a","b","c","d"]}`, 1, 0},
		{"to nobody", `{"type":"publish","topic":"nobody"}`, 1, 0},
		{"to one", `{"type":"publish","topic":"a"}`, 1, 0},
		{"to many", `{"type":"publish","topic":"room"}`, 1, 2},
		{"long, to many", `{"type":"publish","topic":"room","data":"` + long + `"}`, 1, 2*4 + 3},
		{"long junk", long, 1, 3},
	} {
		c := members[0]
		if tt.name == "ping is free" { // sync used up the free frame
			c = s.dial(t)
			members = append(members, c)
		} else if tt.name == "once a second" {
			c = members[len(members)-1]
		}
		frames, charged, handled := of.frames.Load(), of.charged.Load(), handledFrames(s)
		c.send(tt.text)
		eventually(t, "the frame is handled", func() bool { return handledFrames(s) == handled+1 })
		eventually(t, "it is charged", func() bool { return of.charged.Load() >= charged+tt.charged })
		if f, ch := of.frames.Load()-frames, of.charged.Load()-charged; f != tt.frames || ch != tt.charged {
			t.Errorf("%s: got %d frames and %d more tokens, want %d and %d", tt.name, f, ch, tt.frames, tt.charged)
		}
	}
}

func handledFrames(s *testServer) (n int64) {
	for _, count := range s.Stats().Frames {
		n += count
	}
	return n
}

// TestOutOfTokens checks that a frame without a token is handled later.
func TestOutOfTokens(t *testing.T) {
	of := &testClient{}
	of.delays.Store(5)
	s := newTestServer(t, Config{Enter: of.enter}, Limits{})
	c := s.dial(t)
	c.send(`{"type":"subscribe","topics":["marker"]}`)
	if got := c.received(yMarker); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	if left := of.delays.Load(); left >= 0 {
		t.Errorf("%d delays are left", left+1)
	}
}

func TestFrameSize(t *testing.T) {
	s := newTestServer(t, Config{MaxMessageBytes: 1}, Limits{})
	c := s.dial(t)
	c.send(`{"type":"subscribe","topics":["marker"]}`)
	c.send(strings.Repeat(" ", MinMessageBytes))
	if got := c.received(yMarker); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	c.send(strings.Repeat(" ", MinMessageBytes+1))
	if code := c.closeCode(); code != ws.StatusMessageTooBig {
		t.Errorf("got close code %d, want 1009", code)
	}
}

// TestMemoryOfIncompleteFrames checks that they count against the budget.
func TestMemoryOfIncompleteFrames(t *testing.T) {
	of := &testClient{payer: inbox.Payer{Client: "a"}}
	s := newTestServer(t, Config{MaxQueuedBytes: 64 << 10, Enter: of.enter}, Limits{})
	part := ws.MaskFrameInPlace(ws.NewFrame(ws.OpText, false, make([]byte, 60<<10)))
	refused := false
	for range 4 {
		c := s.dial(t)
		if err := ws.WriteFrame(c.conn, part); err != nil {
			t.Fatal(err)
		}
		c.write(ws.OpPing, "")
		for {
			f, err := c.read()
			if err != nil {
				break
			}
			if f.Header.OpCode == ws.OpClose {
				code, _ := ws.ParseCloseFrameData(f.Payload)
				refused = refused || code == 1013
			}
			if f.Header.OpCode == ws.OpPong {
				break
			}
		}
	}
	if !refused {
		t.Error("no connection was closed with 1013")
	}
	if used := s.Stats().QueuedBytes; used > 64<<10 {
		t.Errorf("%d bytes are reserved", used)
	}
}

// TestConcurrentMembers is a test of the race detector: members join, publish, leave and close.
func TestConcurrentMembers(t *testing.T) {
	s := newTestServer(t, Config{}, Limits{})
	var done sync.WaitGroup
	for i := range 40 {
		c := s.dial(t)
		done.Go(func() {
			for n := range 20 {
				c.send(fmt.Sprintf(`{"type":"subscribe","topics":["room","%d"]}`, n))
				c.send(`{"type":"publish","topic":"room","data":"` + strings.Repeat("x", 100*i) + `"}`)
				c.send(fmt.Sprintf(`{"type":"unsubscribe","topics":["%d"]}`, n))
				if n%5 == 4 {
					c.send(`{"type":"unsubscribe","topics":["room"]}`)
				}
			}
			c.sync()
			c.conn.Close()
		})
	}
	done.Wait()
}
