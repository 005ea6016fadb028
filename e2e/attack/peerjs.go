package attack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// withPeerJS serves PeerJS.
var withPeerJS = []string{"-https=false", "-compat=peerjs"}

// peerjsAttacks returns the attacks on clients of PeerJS. A flood must leave the latencies of
// others as they are.
func peerjsAttacks(seconds time.Duration) (all []attack) {
	for _, f := range peerjsFloods {
		all = append(all, attack{
			name: f.name, flags: withPeerJS, measuresLatency: true, timeout: 4 * time.Minute,
			run: besidePeers(f.name, int(seconds)),
		})
	}
	return all
}

// peerjsFlood is a flood of 200 connections of PeerJS clients of four addresses.
type peerjsFlood struct {
	name string
	// frame returns what connection i sends n-th.
	frame func(i, n int) string
	// reads is whether the clients read what arrives.
	reads bool
}

const (
	peerjsFlooders, peerjsFloodersPerAddr = 200, 50
	// openPeer begins a session.
	openPeer = `{"type":"OPEN"}`
)

var peerjsFloods = []peerjsFlood{
	{"PeerJS: frames to one another", func(i, n int) string {
		return fmt.Sprintf(`{"type":"OFFER","dst":"flood-%d","payload":"%s"}`, (i+1)%peerjsFlooders, peerjsPayload)
	}, true},
	{"PeerJS: frames to one another, never read", func(i, n int) string {
		return fmt.Sprintf(`{"type":"OFFER","dst":"flood-%d","payload":"%s"}`, (i+1)%peerjsFlooders, peerjsPayload)
	}, false},
	{"PeerJS: absent ids", func(i, n int) string {
		return fmt.Sprintf(`{"type":"OFFER","dst":"absent-%d-%d","payload":"%s"}`, i, n, peerjsPayload)
	}, true},
	{"PeerJS: junk", func(i, n int) string { return peerjsJunk[n%len(peerjsJunk)] }, true},
	{"PeerJS: frames of 8 MiB", func(i, n int) string {
		if n == 0 {
			return `{"type":"HEARTBEAT"}`
		}
		return peerjsLarge
	}, true},
}

var (
	peerjsPayload = strings.Repeat("a", 1000)
	peerjsLarge   = strings.Repeat(" ", 8<<20)
	peerjsJunk    = []string{
		"", " ", "{", "null", "7", `""`, "[]", "{}", `{"type":7}`, `{"type":"OFFER"}`, `{"type":"OFFER","dst":{}}`, `{"type":"OFFER","dst":""}`,
		`{"type":"ID-TAKEN","dst":"good-0"}`, `{"type":"OPEN","dst":"good-0"}`, strings.Repeat("[", 60<<10),
		`{"type":"OFFER","dst":"` + strings.Repeat("x", 60<<10) + `"}`, `{"type":"HEARTBEAT","payload":` + strings.Repeat("9", 60<<10) + `}`,
	}
)

func init() {
	for _, f := range peerjsFloods {
		floods[f.name] = f.run
	}
}

// run floods until ctx ends. A connection that ends is made again, after what it received has
// told why: only a large frame may end one.
func (f peerjsFlood) run(s *scenario, ctx context.Context) (sent, ended int64) {
	var frames, ends atomic.Int64
	parallel(peerjsFlooders, peerjsFlooders, func(i int) {
		for ctx.Err() == nil {
			t, err := s.dialRawPeer(ctx, attackerAddr(i/peerjsFloodersPerAddr), fmt.Sprint("flood-", i))
			if err != nil {
				sleep(ctx, 100*time.Millisecond) // refused
				continue
			}
			if f.reads {
				go func() { _, _ = io.Copy(io.Discard, t.r) }()
			}
			for n := 0; err == nil; n++ {
				if err = t.send(f.frame(i, n)); err == nil {
					frames.Add(1)
				}
			}
			t.Close()
			if ctx.Err() == nil {
				ends.Add(1)
			}
		}
	})
	return frames.Load(), ends.Load()
}

// dialRawPeer connects as a client of PeerJS that answers nothing.
func (s *scenario) dialRawPeer(ctx context.Context, from, id string) (*topicSocket, error) {
	c, err := s.dialTCP(ctx, from)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { c.Close() })
	t := &topicSocket{c, bufio.NewReader(c)}
	_, err = fmt.Fprintf(c, "GET /peerjs?key=peerjs&token=t&id=%s HTTP/1.1\r\nHost: inbox\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", id)
	if err == nil {
		err = t.awaitOpen()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

func (t *topicSocket) awaitOpen() error {
	resp, err := http.ReadResponse(t.r, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return errors.New(resp.Status)
	}
	if _, text, err := t.receive(); err != nil || string(text) != openPeer {
		return fmt.Errorf("got %q, %v, want OPEN", text, err)
	}
	return nil
}

// goodPeer is a client of PeerJS that sends messages to itself.
type goodPeer struct {
	conn *websocket.Conn
	id   string
}

func (p *goodPeer) echo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := p.conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"OFFER","dst":"%s","payload":1}`, p.id)); err != nil {
		return err
	}
	_, _, err := p.conn.Read(ctx)
	return err
}

// newGoodPeer connects from an address.
func (s *scenario) newGoodPeer(ctx context.Context, id, from string) (*probe, error) {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dialTCP(ctx, from) },
	}}
	c, _, err := websocket.Dial(ctx, "ws://"+s.addr+"/peerjs?key=peerjs&token=t&id="+id, &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return nil, err
	}
	if _, text, err := c.Read(ctx); err != nil || string(text) != openPeer {
		c.CloseNow()
		return nil, fmt.Errorf("got %q, %v, want OPEN", text, err)
	}
	return &probe{exchange: (&goodPeer{c, id}).echo, end: func() { c.CloseNow() }}, nil
}

// besidePeers floods the server while good clients use it, half of them of PeerJS and half of
// mailboxes, and compares their latencies with those without a flood.
func besidePeers(flood string, rounds int) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		var probes []*probe
		for i := range probeCount / 2 {
			g, err := s.newGoodPeer(ctx, fmt.Sprint("good-", i), fmt.Sprintf("127.202.0.%d", 1+i))
			if err != nil {
				s.fail("good client: %v", err)
				return
			}
			probes = append(probes, g, newProbe(s, fmt.Sprint("other", i), fmt.Sprintf("127.201.0.%d", 1+i)))
		}
		if c := s.compare(ctx, flooder{name: flood, flags: withPeerJS}, probes, rounds); c != nil {
			s.addFigure("%d rounds, %d frames written, %d connections ended", c.rounds, c.answered, c.refused)
			c.report()
		}
	}
}
