package topics

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// rule is a rule of a protocol. A step is "a > text" for a frame of the client a, "a < text" for
// one that it receives next, or "a close". At the end, no client has received anything more.
type rule struct{ name, steps string }

const (
	yMarker = `{"type":"publish","topic":"marker","data":1}`
	yJoin   = `{"type":"subscribe","topics":["marker"]}`
	tMarker = `{"type":"publish","topic":"marker","payload":1}`
	tJoin   = `{"type":"subscribe","topic":"marker"}`
)

var yWebRTCRules = []rule{
	{"a member receives what is published", `
		a > {"type":"subscribe","topics":["room"]}
		b > {"type":"publish","topic":"room","data":{"type":"announce","from":"b"}}
		a < {"type":"publish","topic":"room","data":{"type":"announce","from":"b"},"clients":1}`},
	{"the publisher receives a copy, and clients is the number of members", `
		a > {"type":"subscribe","topics":["room"]}
		b > {"type":"subscribe","topics":["room"]}
		b > {"type":"publish","topic":"room","data":"c2VjcmV0"}
		a < {"type":"publish","topic":"room","data":"c2VjcmV0","clients":2}
		b < {"type":"publish","topic":"room","data":"c2VjcmV0","clients":2}`},
	{"the frame arrives as it came", `
		a > {"type":"subscribe","topics":["room"]}
		a > {"more":[1, "x"], "topic":"room","type":"publish"}
		a < {"more":[1, "x"], "topic":"room","type":"publish","clients":1}`},
	{"clients of the publisher is replaced", `
		a > {"type":"subscribe","topics":["room"]}
		a > {"type":"publish","topic":"room","clients":99}
		a < {"type":"publish","topic":"room","clients":1}`},
	{"who is no member can publish", `
		a > {"type":"subscribe","topics":["room"]}
		b > {"type":"subscribe","topics":["elsewhere"]}
		b > {"type":"publish","topic":"room"}
		a < {"type":"publish","topic":"room","clients":1}`},
	{"two subscriptions of a socket get one copy", `
		a > {"type":"subscribe","topics":["room","room"]}
		a > {"type":"subscribe","topics":["room"]}
		a > {"type":"publish","topic":"room"}
		a < {"type":"publish","topic":"room","clients":1}`},
	{"who unsubscribes is no member", `
		a > {"type":"subscribe","topics":["room","other"]}
		b > {"type":"subscribe","topics":["room"]}
		a > {"type":"unsubscribe","topics":["room","unknown"]}
		b > {"type":"publish","topic":"room"}
		b < {"type":"publish","topic":"room","clients":1}
		b > {"type":"publish","topic":"other"}
		a < {"type":"publish","topic":"other","clients":1}`},
	{"a closed socket is no member", `
		a > {"type":"subscribe","topics":["room"]}
		b > {"type":"subscribe","topics":["room"]}
		b close
		a > {"type":"publish","topic":"room"}
		a < {"type":"publish","topic":"room","clients":1}`},
	{"ping is answered with pong", `
		a > {"type":"ping"}
		a < {"type":"pong"}`},
	{"frames of a sender keep their order", `
		a > {"type":"subscribe","topics":["room"]}
		b > {"type":"publish","topic":"room","data":1}
		b > {"type":"publish","topic":"room","data":2}
		b > {"type":"publish","topic":"room","data":3}
		a < {"type":"publish","topic":"room","data":1,"clients":1}
		a < {"type":"publish","topic":"room","data":2,"clients":1}
		a < {"type":"publish","topic":"room","data":3,"clients":1}`},
	{"topics that are no strings are ignored, the others count", `
		a > {"type":"subscribe","topics":[7,null,{"a":1},["room"],"room"]}
		a > {"type":"publish","topic":"room"}
		a < {"type":"publish","topic":"room","clients":1}
		a > {"type":"publish","topic":7}
		a > {"type":"publish","topic":""}
		a > {"type":"publish"}
		a > {"type":"publish","topic":"nobody is here"}`},
	{"junk is ignored, and the connection goes on", `
		a > {"type":"subscribe","topics":["room"]}
		a >
		a > {"type":"subscribe","topics":7}
		a > {"type":"unsubscribe","topics":{"a":1}}
		a > {"type":"subscribe"}
		a > {"type":"publish","topics":["room"]}
		a > {"type":"unknown"}
		a > {"type":
		a > null
		a > [[[[
		a > "publish"
		a > 7
		a > {}
		a > {"type":"subscribe","topic":"a topic of Trystero"}
		b > {"type":"subscribe","topics":"room"}
		b > {"type":"publish","topic":"room"}
		a < {"type":"publish","topic":"room","clients":1}`},
}

var trysteroRules = []rule{
	{"a member receives topic and payload, without a type", `
		a > {"type":"subscribe","topic":"0123456789abcdef"}
		b > {"type":"publish","topic":"0123456789abcdef","payload":"p"}
		a < {"topic":"0123456789abcdef","payload":"p"}`},
	{"the publisher receives a copy", `
		a > {"type":"subscribe","topic":"t"}
		b > {"type":"subscribe","topic":"t"}
		b > {"type":"publish","topic":"t","payload":{"peerId":"b"}}
		a < {"topic":"t","payload":{"peerId":"b"}}
		b < {"topic":"t","payload":{"peerId":"b"}}`},
	{"a payload is any value", `
		a > {"type":"subscribe","topic":"t"}
		a > {"type":"publish","topic":"t","payload":null}
		a < {"topic":"t","payload":null}
		a > {"type":"publish","topic":"t","payload":[1,{"x":"\"}"}]}
		a < {"topic":"t","payload":[1,{"x":"\"}"}]}`},
	{"nothing but topic and payload is delivered", `
		a > {"type":"subscribe","topic":"t"}
		a > {"payload":1,"more":2,"topic":"t","type":"publish","clients":3}
		a < {"topic":"t","payload":1}`},
	{"a publish without a payload is ignored", `
		a > {"type":"subscribe","topic":"t"}
		a > {"type":"publish","topic":"t"}
		a > {"type":"publish","topic":"t","data":1}
		a > {"type":"publish","topic":7,"payload":1}`},
	{"two subscriptions of a socket get one copy", `
		a > {"type":"subscribe","topic":"t"}
		a > {"type":"subscribe","topic":"t"}
		a > {"type":"publish","topic":"t","payload":1}
		a < {"topic":"t","payload":1}`},
	{"who unsubscribes is no member", `
		a > {"type":"subscribe","topic":"t"}
		b > {"type":"subscribe","topic":"t"}
		a > {"type":"unsubscribe","topic":"t"}
		a > {"type":"publish","topic":"t","payload":1}
		b < {"topic":"t","payload":1}`},
	{"a topic of y-webrtc with the same name is another one", `
		y > {"type":"subscribe","topics":["t"]}
		a > {"type":"subscribe","topic":"t"}
		a > {"type":"publish","topic":"t","payload":1}
		a < {"topic":"t","payload":1}`},
	{"junk and ping are ignored, and the connection goes on", `
		a > {"type":"subscribe","topic":7}
		a > {"type":"subscribe"}
		a > {"type":"ping"}
		a >
		a > {
		a > {"type":"subscribe","topics":["a room of y-webrtc"]}
		a > {"type":"subscribe","topic":"t"}
		a > {"type":"publish","topic":"t","payload":1}
		a < {"topic":"t","payload":1}`},
}

func TestYWebRTCRules(t *testing.T) {
	for _, r := range yWebRTCRules {
		t.Run(r.name, func(t *testing.T) { runRule(t, r.steps, yJoin, yMarker) })
	}
}

func TestTrysteroRules(t *testing.T) {
	for _, r := range trysteroRules {
		t.Run(r.name, func(t *testing.T) { runRule(t, r.steps, tJoin, tMarker) })
	}
}

func runRule(t *testing.T, steps, join, marker string) {
	s := newTestServer(t, Config{}, Limits{})
	clients := map[string]*client{}
	for line := range strings.Lines(strings.TrimSpace(steps)) {
		name, step, _ := strings.Cut(strings.TrimSpace(line), " ")
		c := clients[name]
		if c == nil {
			c = s.dial(t)
			if clients[name] = c; name == "y" {
				c.send(yJoin)
			} else {
				c.send(join)
			}
			c.sync()
		}
		switch action, text, _ := strings.Cut(step, " "); action {
		case ">":
			c.send(text)
			c.sync()
		case "<":
			if got := c.receive(); got != text {
				t.Fatalf("%s received %s, want %s", name, got, text)
			}
		case "close":
			c.conn.Close()
			delete(clients, name)
			eventually(t, "the connection is closed", func() bool { return s.conns.Len() == len(clients) })
		}
	}
	for name, c := range clients {
		last := marker
		if name == "y" {
			last = yMarker
		}
		if got := c.received(last); len(got) > 0 {
			// The marker is published to all.
			t.Errorf("%s received more: %q", name, got)
		}
	}
}

func TestServerPings(t *testing.T) {
	s := newTestServer(t, Config{}, Limits{}, func(h *Handler) { h.config.PingInterval = 20 * time.Millisecond })
	c, silent := s.dial(t), s.dial(t)
	for range 5 {
		f, err := c.read()
		if err != nil || f.Header.OpCode != ws.OpPing {
			t.Fatalf("got %v and %v, want a ping", f.Header, err)
		}
		c.write(ws.OpPong, string(f.Payload))
	}
	if code := silent.closeCode(); code != 0 {
		t.Errorf("a silent client got the close code %d, want none", code)
	}
}

func TestBinaryIsIgnored(t *testing.T) {
	s := newTestServer(t, Config{}, Limits{})
	c := s.dial(t)
	c.write(ws.OpBinary, `{"type":"ping"}`)
	c.send(`{"type":"subscribe","topics":["marker"]}`)
	if got := c.received(yMarker); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	if got := s.Stats().Frames; got["other"] != 1 || got["ping"] != 0 || got["subscribe"] != 1 || got["publish"] != 1 {
		t.Errorf("got frames %v", got)
	}
}

// TestLeaveInAnyOrder is about topics that are left in another order than they were joined in.
func TestLeaveInAnyOrder(t *testing.T) {
	s := newTestServer(t, Config{}, Limits{})
	c := s.dial(t)
	c.send(`{"type":"subscribe","topics":["marker","a","b","c"]}`)
	c.send(`{"type":"unsubscribe","topics":["b","a"]}`)
	for _, name := range []string{"a", "b", "c"} {
		c.send(`{"type":"publish","topic":"` + name + `"}`)
	}
	if got := c.received(yMarker); !slices.Equal(got, []string{`{"type":"publish","topic":"c","clients":1}`}) {
		t.Errorf("got %q", got)
	}
	if stats := s.Stats(); stats.Topics != 2 || stats.Members != 2 {
		t.Errorf("got %d topics and %d members, want 2 and 2", stats.Topics, stats.Members)
	}
}

// TestRoomLosesNothing lets the eight members of a room of Trystero publish at once. Each must
// receive the frames of every other one, in their order; all of them fit into a queue.
func TestRoomLosesNothing(t *testing.T) {
	const members, frames = 8, 100
	s := newTestServer(t, Config{}, Limits{})
	var room [members]*client
	for i := range room {
		room[i] = s.dial(t)
		room[i].send(`{"type":"subscribe","topic":"room"}`)
	}
	eventually(t, "all have joined", func() bool { return s.Stats().Members == members })
	var running sync.WaitGroup
	for i, c := range room {
		running.Go(func() {
			for n := range frames {
				c.send(fmt.Sprintf(`{"type":"publish","topic":"room","payload":"%d %d %s"}`, i, n, strings.Repeat("x", 200)))
			}
		})
		running.Go(func() {
			var next [members]int
			for done := 0; done < members-1; {
				f, err := c.read()
				var from, n int
				if err == nil && f.Header.OpCode == ws.OpText {
					_, rest, _ := strings.Cut(string(f.Payload), `"payload":"`)
					_, err = fmt.Sscanf(rest, "%d %d", &from, &n)
				}
				switch {
				case err != nil:
					t.Errorf("member %d: %v; has received %v of each", i, err, next)
					return
				case f.Header.OpCode != ws.OpText || from == i:
					continue
				case n != next[from]:
					t.Errorf("member %d: got frame %d of member %d, want %d", i, n, from, next[from])
					return
				}
				if next[from]++; next[from] == frames {
					done++
				}
			}
		})
	}
	running.Wait()
}
