package topics

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"inbox/inbox"

	"github.com/gobwas/ws"
)

func newTestQueue(maxBytes int64, dropOldest bool) *queue {
	b := &budget{}
	b.init(maxBytes)
	return &queue{budget: b, payer: inbox.Payer{Client: "a"}, dropOldest: dropOldest}
}

func bytesOf(n int) []byte { return make([]byte, n) }

func TestQueue(t *testing.T) {
	t.Run("frames keep their order, and take no memory afterwards", func(t *testing.T) {
		q := newTestQueue(0, false)
		for i := range 3 {
			if r := q.push([]byte{byte(i)}); r.start != (i == 0) || r.closed {
				t.Errorf("frame %d: got %+v", i, r)
			}
		}
		for i := range 3 {
			if frame := q.next(); len(frame) != 1 || frame[0] != byte(i) {
				t.Errorf("got frame %v, want %d", frame, i)
			}
		}
		if q.next() != nil || q.frames != nil {
			t.Error("frames are left")
		}
		if r := q.push([]byte{1}); !r.start {
			t.Error("nothing writes the next frame")
		}
	})
	t.Run("a frame of any size fits into an empty queue", func(t *testing.T) {
		q := newTestQueue(0, false)
		if r := q.push(bytesOf(4 * MaxQueueBytes)); !r.start {
			t.Errorf("got %+v", r)
		}
		if r := q.push(bytesOf(1)); !r.closed {
			t.Errorf("behind it: got %+v, want closed", r)
		}
	})
	t.Run("without room it is closed", func(t *testing.T) {
		q := newTestQueue(1<<30, false)
		q.push(bytesOf(100))
		q.next() // is being written
		for range 4 {
			if r := q.push(bytesOf(MaxQueueBytes / 4)); r.closed {
				t.Fatalf("got %+v", r)
			}
		}
		if used := q.budget.used.Load(); used < MaxQueueBytes-freeQueueBytes || used > MaxQueueBytes+queueStepBytes {
			t.Errorf("%d bytes are reserved, want about %d", used, MaxQueueBytes)
		}
		if r := q.push(bytesOf(1)); !r.closed || q.frames != nil {
			t.Errorf("got %+v, want closed", r)
		}
		if r := q.push(bytesOf(1)); r != (result{}) {
			t.Errorf("closed: got %+v, want nothing", r)
		}
		if q.next() != nil || q.budget.used.Load() != 0 {
			t.Errorf("%d bytes are reserved, want 0", q.budget.used.Load())
		}
	})
	t.Run("without room it drops the oldest", func(t *testing.T) {
		q := newTestQueue(0, true)
		for i := range 4 {
			q.push(append(bytesOf(MaxQueueBytes/4-1), byte(i)))
		}
		if r := q.push(append(bytesOf(MaxQueueBytes/2-1), 4)); r.dropped != 2 || r.closed {
			t.Errorf("got %+v, want two dropped", r)
		}
		for _, want := range []byte{2, 3, 4} {
			if frame := q.next(); frame[len(frame)-1] != want {
				t.Errorf("got frame %d, want %d", frame[len(frame)-1], want)
			}
		}
	})
	t.Run("the budget is shared", func(t *testing.T) {
		q := newTestQueue(1<<20, true)
		other := &queue{budget: q.budget, payer: inbox.Payer{Client: "b"}, dropOldest: true}
		dropped := 0
		for range 64 {
			full := &queue{budget: q.budget, payer: q.payer, dropOldest: true}
			dropped += full.push(bytesOf(64 << 10)).dropped
		}
		if dropped == 0 || q.budget.used.Load() > 1<<20 {
			t.Errorf("%d frames were dropped, %d bytes are reserved", dropped, q.budget.used.Load())
		}
		if r := other.push(bytesOf(32 << 10)); r.dropped > 0 {
			t.Error("another client can queue nothing")
		}
		if r := q.push(bytesOf(freeQueueBytes)); !r.start {
			t.Errorf("a small frame: got %+v", r)
		}
	})
}

// flood publishes frames to a room until done, and returns how many. The client is a member, and reads
// its copy of each, so that its own queue is never full.
func flood(t *testing.T, c *client, frame func(i int) string, done func() bool) (n int) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); !done(); n++ {
		if time.Now().After(deadline) {
			t.Fatal("timeout: the queue of a client that does not read is never full")
		}
		c.send(frame(n))
		c.receive() // its own frame: a pong can overtake those that wait for it
	}
	return n
}

// TestSlowMember checks that a client that does not read delays no other one, and what happens to
// it: one of y-webrtc is closed, one of Trystero loses its oldest frames.
func TestSlowMember(t *testing.T) {
	body := strings.Repeat("x", 60<<10)
	t.Run("y-webrtc", func(t *testing.T) {
		s := newTestServer(t, Config{}, Limits{})
		slow, fast := s.dial(t), s.dial(t)
		for _, c := range []*client{slow, fast} {
			c.send(`{"type":"subscribe","topics":["room"]}`)
			c.sync()
		}
		n := flood(t, fast, func(i int) string {
			return fmt.Sprintf(`{"type":"publish","topic":"room","data":"%d %s"}`, i, body)
		}, func() bool { return s.Stats().Disconnected == 1 })
		eventually(t, "the connection is closed", func() bool { return s.conns.Len() == 1 })
		if got := s.Stats(); got.Dropped != 0 || got.Delivered < int64(n) {
			t.Errorf("got %d dropped, %d delivered of %d", got.Dropped, got.Delivered, n)
		}
	})
	t.Run("Trystero", func(t *testing.T) {
		s := newTestServer(t, Config{}, Limits{})
		slow, fast := s.dial(t), s.dial(t)
		for _, c := range []*client{slow, fast} {
			c.send(`{"type":"subscribe","topic":"room"}`)
			c.sync()
		}
		publish := func(i int) string {
			return fmt.Sprintf(`{"type":"publish","topic":"room","payload":"%d %s"}`, i, body)
		}
		n := flood(t, fast, publish, func() bool { return s.Stats().Dropped > 0 })
		fast.send(strings.Replace(publish(n), body, "last", 1))
		next := -1
		for last := false; !last; {
			var i int
			text := slow.receive()
			if _, err := fmt.Sscanf(text, `{"topic":"room","payload":"%d `, &i); err != nil || i <= next {
				t.Fatalf("got frame %d after %d: %v", i, next, err)
			}
			next, last = i, strings.Contains(text, "last")
		}
		if s.conns.Len() != 2 || next != n {
			t.Errorf("%d connections are open, the last frame is %d, want 2 and %d", s.conns.Len(), next, n)
		}
	})
}

// TestClientThatNeverReads checks that a write has a limit.
func TestClientThatNeverReads(t *testing.T) {
	s := newTestServer(t, Config{WriteTimeout: 300 * time.Millisecond}, Limits{})
	slow, fast := s.dial(t), s.dial(t)
	for _, c := range []*client{slow, fast} {
		c.send(`{"type":"subscribe","topic":"room"}`)
		c.sync()
	}
	frame := `{"type":"publish","topic":"room","payload":"` + strings.Repeat("x", 60<<10) + `"}`
	flood(t, fast, func(int) string { return frame }, func() bool { return s.conns.Len() == 1 })
	fast.write(ws.OpPing, "")
}
