package attack

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// withTopics serves y-webrtc and Trystero.
var withTopics = []string{"-compat", "topics"}

// topicAttacks returns the attacks on topics.
func topicAttacks(seconds time.Duration) []attack {
	return []attack{
		{name: "topics: floods, junk, large frames and many topics at once", flags: withTopics, measuresLatency: true, timeout: 4 * time.Minute, run: requestFlood(topicFlooder, int(seconds))},
		{name: "topics: publication flood, one address", flags: withTopics, timeout: 2 * time.Minute, run: topicFlood(3 * seconds * time.Second)},
		{name: "topics: members that never read", flags: withTopics, timeout: 2 * time.Minute, run: unreadTopics(3 * seconds * time.Second)},
		{name: "topics: 20,000 topics", flags: withTopics, timeout: 2 * time.Minute, run: manyTopics},
		{name: "topics: junk and frames of 8 MiB", flags: withTopics, run: topicJunk},
	}
}

// The first byte of complete frames, and the bit of a mask.
const (
	finalText, finalClose, finalPing = 0x81, 0x88, 0x89
	maskBit                          = 0x80
)

// topicSocket is a WebSocket of a client of topics.
type topicSocket struct {
	net.Conn
	r *bufio.Reader
}

// dialTopics opens a WebSocket from a source address.
func (s *scenario) dialTopics(ctx context.Context, from string) (*topicSocket, error) {
	c, err := s.dial(ctx, from, "http/1.1")
	if err != nil {
		return nil, err
	}
	return upgradeTopics(c)
}

func upgradeTopics(c net.Conn) (*topicSocket, error) {
	const request = "GET /topics HTTP/1.1\r\nHost: inbox\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	t := &topicSocket{c, bufio.NewReader(c)}
	if _, err := io.WriteString(c, request); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(t.r, nil)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New(resp.Status)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

// textFrame returns a frame whose mask is zero.
func textFrame(text string) []byte {
	b := []byte{finalText}
	switch n := len(text); {
	case n < 126:
		b = append(b, maskBit|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, maskBit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, maskBit|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), text...)
}

func (t *topicSocket) send(text string) error {
	_, err := t.Write(textFrame(text))
	return err
}

// receive returns the first byte and the payload of the next frame, which is no ping.
func (t *topicSocket) receive() (first byte, payload []byte, err error) {
	var head [2]byte
	for {
		if _, err = io.ReadFull(t.r, head[:]); err != nil {
			return 0, nil, err
		}
		n := uint64(head[1])
		switch n {
		case 126:
			var b [2]byte
			_, err = io.ReadFull(t.r, b[:])
			n = uint64(binary.BigEndian.Uint16(b[:]))
		case 127:
			var b [8]byte
			_, err = io.ReadFull(t.r, b[:])
			n = binary.BigEndian.Uint64(b[:])
		}
		if err != nil {
			return 0, nil, err
		}
		payload = make([]byte, n)
		if _, err = io.ReadFull(t.r, payload); err != nil {
			return 0, nil, err
		}
		if first = head[0]; first != finalPing {
			return first, payload, nil
		}
	}
}

const (
	subscribeRoom = `{"type":"subscribe","topics":["room"]}`
	publishGood   = `{"type":"publish","topic":"good","data":"announce"}`
)

// goodMember publishes to its own topic until ctx ends, and reports how long its copies take.
func goodMember(ctx context.Context, s *scenario) (latencies []time.Duration) {
	t, err := s.dialTopics(context.WithoutCancel(ctx), clientAddr)
	if err == nil {
		defer t.Close()
		err = t.send(`{"type":"subscribe","topics":["good"]}`)
	}
	for err == nil && sleep(ctx, probeInterval) {
		began := time.Now()
		t.SetDeadline(began.Add(20 * time.Second))
		if err = t.send(publishGood); err == nil {
			_, _, err = t.receive()
		}
		latencies = append(latencies, time.Since(began))
	}
	if err != nil {
		s.fail("the good member: %v", err)
	}
	return latencies
}

// besideGoodMember runs f while a good member publishes, and adds its latencies to the figures. It
// publishes alone before, for comparison.
func besideGoodMember(ctx context.Context, s *scenario, f func()) {
	alone, cancel := context.WithTimeout(ctx, time.Second)
	before := goodMember(alone, s)
	cancel()
	attacked, stop := context.WithCancel(ctx)
	var during []time.Duration
	var wg sync.WaitGroup
	wg.Go(func() { during = goodMember(attacked, s) })
	f()
	stop()
	wg.Wait()
	s.addFigure("good member p50 / p99: %s / %s, alone %s / %s", milliseconds(percentile(during, 0.5)),
		milliseconds(percentile(during, 0.99)), milliseconds(percentile(before, 0.5)), milliseconds(percentile(before, 0.99)))
}

// topicFlood publishes from 50 sockets of one address to a topic of them all, as fast as the
// server reads.
func topicFlood(d time.Duration) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		const sockets = 50
		frame := `{"type":"publish","topic":"room","data":"` + strings.Repeat("x", 1000) + `"}`
		var sent, received atomic.Int64
		besideGoodMember(ctx, s, func() {
			flooding, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			var all [sockets]*topicSocket // the flood uses up the tokens of further connections
			for i := range all {
				t, err := s.dialTopics(flooding, attackerAddr(0))
				if err != nil {
					s.fail("dial: %v", err)
					return
				}
				all[i] = t
			}
			parallel(sockets, sockets, func(i int) {
				t := all[i]
				defer t.Close()
				go func() {
					for _, _, err := t.receive(); err == nil; _, _, err = t.receive() {
						received.Add(1)
					}
				}()
				for err := t.send(subscribeRoom); err == nil; err = t.send(frame) {
					sent.Add(1)
				}
			})
		})
		s.addFigure("%d sockets, %d frames accepted by the kernel, %d delivered", sockets, sent.Load(), received.Load())
	}
}

// unreadTopics publishes large frames to members that never read, from eight addresses, of both
// protocols.
func unreadTopics(d time.Duration) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		const addresses, socketsEach = 8, 25
		padding := strings.Repeat("x", 30<<10)
		var joined, refused, closed atomic.Int64
		besideGoodMember(ctx, s, func() {
			flooding, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			parallel(addresses*socketsEach, addresses*socketsEach, func(i int) {
				subscription, frame := subscribeRoom, `{"type":"publish","topic":"room","data":"`+padding+`"}`
				if i%2 == 0 {
					subscription, frame = `{"type":"subscribe","topic":"room"}`, `{"type":"publish","topic":"room","payload":"`+padding+`"}`
				}
				c, err := s.dialSmallBuffer(flooding, attackerAddr(i/socketsEach), "http/1.1")
				if err != nil {
					s.fail("dial: %v", err)
					return
				}
				defer c.Close()
				t, err := upgradeTopics(c)
				if err != nil && strings.HasPrefix(err.Error(), "429") {
					refused.Add(1) // the share of its address is used up
					return
				}
				if err != nil {
					s.fail("upgrade: %v", err)
					return
				}
				joined.Add(1)
				for err = t.send(subscription); err == nil && sleep(flooding, 50*time.Millisecond); err = t.send(frame) {
				}
				if err != nil && flooding.Err() == nil {
					closed.Add(1)
				}
			})
		})
		if joined.Load() < addresses*socketsEach/2 {
			s.fail("only %d members joined", joined.Load())
		}
		s.addFigure("%d members that never read, %d more refused, %d closed by the server", joined.Load(), refused.Load(), closed.Load())
	}
}

// manyTopics subscribes to 20,000 topics, 500 from each address, and then publishes to some.
func manyTopics(ctx context.Context, s *scenario) {
	const topics, perAddr, perSocket = 20_000, 500, 50
	var joined atomic.Int64
	besideGoodMember(ctx, s, func() {
		var open sync.Map
		parallel(topics/perSocket, 40, func(i int) {
			t, err := s.dialTopics(ctx, attackerAddr(i*perSocket/perAddr))
			if err != nil {
				s.fail("dial: %v", err)
				return
			}
			open.Store(i, t)
			names := make([]string, perSocket)
			for n := range names {
				names[n] = fmt.Sprintf("%q", fmt.Sprintf("%s %d %d", strings.Repeat("long name ", 20), i, n))
			}
			last := names[perSocket-1]
			t.SetDeadline(time.Now().Add(30 * time.Second))
			for _, frame := range []string{`{"type":"subscribe","topics":[` + strings.Join(names, ",") + `]}`, `{"type":"publish","topic":` + last + `}`} {
				if err := t.send(frame); err != nil {
					s.fail("send: %v", err)
					return
				}
			}
			if _, text, err := t.receive(); err != nil || !strings.Contains(string(text), `"clients":1`) {
				s.fail("publish: got %q and %v", text, err)
				return
			}
			joined.Add(perSocket)
		})
		open.Range(func(_, t any) bool { t.(*topicSocket).Close(); return true })
	})
	s.addFigure("%d topics of %d addresses", joined.Load(), topics/perAddr)
}

// topicFlooder makes all attacks on topics at once. Its publications come from one address.
var topicFlooder = flooder{name: "topics", addrs: 1, flags: withTopics, newProbe: newMember}

const floodingSockets = 50

// floodTopics floods a topic from one address, and sends junk, frames of 8 MiB and subscriptions to
// many topics from others, until ctx ends. It returns how many publications were delivered.
func floodTopics(s *scenario, ctx context.Context) (published, _ int64) {
	var delivered atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() { s.publishTo(ctx, "room", &delivered) })
	for i := range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				s.sendJunk(ctx, attackerAddr(1+i))
			}
		})
		wg.Go(func() { s.holdTopics(ctx, attackerAddr(5+i)) })
	}
	wg.Wait()
	return delivered.Load(), 0
}

// publishTo publishes to a topic from 50 sockets of one address, all of them members, and counts the
// publications that the first one receives.
func (s *scenario) publishTo(ctx context.Context, topic string, delivered *atomic.Int64) {
	subscription := `{"type":"subscribe","topics":["` + topic + `"]}`
	frame := `{"type":"publish","topic":"` + topic + `","data":"` + strings.Repeat("x", 1000) + `"}`
	var all []*topicSocket // the flood uses up the tokens of further connections
	for range floodingSockets {
		if t, err := s.dialTopics(ctx, attackerAddr(0)); err == nil {
			defer t.Close()
			all = append(all, t)
		}
	}
	parallel(len(all), floodingSockets, func(i int) {
		t := all[i]
		go func() {
			for _, _, err := t.receive(); err == nil; _, _, err = t.receive() {
				if i == 0 {
					delivered.Add(1)
				}
			}
		}()
		for err := t.send(subscription); err == nil && ctx.Err() == nil; err = t.send(frame) {
		}
	})
}

// sendJunk sends junk and a frame that is too large on a connection.
func (s *scenario) sendJunk(ctx context.Context, from string) {
	t, err := s.dialTopics(ctx, from)
	if err != nil {
		sleep(ctx, 100*time.Millisecond)
		return
	}
	defer t.Close()
	for _, text := range topicJunkTexts {
		if t.send(text) != nil {
			return
		}
	}
	_ = t.send(strings.Repeat(" ", largeFrameBytes)) // the server closes the connection meanwhile
}

// holdTopics subscribes to 500 topics of one address until ctx ends.
func (s *scenario) holdTopics(ctx context.Context, from string) {
	for i := range 10 {
		t, err := s.dialTopics(ctx, from)
		if err != nil {
			continue
		}
		defer t.Close()
		names := make([]string, 50)
		for n := range names {
			names[n] = fmt.Sprintf(`"%s %s %d %d"`, strings.Repeat("long name ", 20), from, i, n)
		}
		_ = t.send(`{"type":"subscribe","topics":[` + strings.Join(names, ",") + `]}`) // the good clients show the effect
	}
	<-ctx.Done()
}

// newMember returns a good client that publishes to a topic of its own.
func newMember(s *scenario, name, from string) *probe {
	g := newProbe(s, name, from)
	var t *topicSocket
	g.exchange = func(ctx context.Context) (err error) {
		if t == nil {
			if t, err = s.dialTopics(ctx, from); err == nil {
				err = t.send(`{"type":"subscribe","topics":["` + name + `"]}`)
			}
		}
		if err != nil {
			return err
		}
		t.SetDeadline(time.Now().Add(20 * time.Second))
		if err = t.send(`{"type":"publish","topic":"` + name + `","data":"announce"}`); err == nil {
			_, _, err = t.receive()
		}
		return err
	}
	return g
}

// topicJunkTexts are no frames of a client.
var topicJunkTexts = []string{
	"", " ", "{", "null", "7", `""`, "[]", "{}", `{"type":7}`, `{"type":"subscribe","topics":7}`, `{"type":"subscribe","topics":{"a":1}}`,
	`{"type":"subscribe","topics":[[[[]]],null,{}]}`, `{"type":"publish"}`, `{"type":"publish","topic":{}}`, `{"type":"unsubscribe","topics":"a"}`,
	strings.Repeat("[", 60<<10), `{"type":"publish","topic":"x","clients":` + strings.Repeat("9", 60<<10) + `}`,
}

const largeFrameBytes = 8 << 20

// topicJunk sends what is no frame of a client, after which the connection must go on, and frames
// that are too large, which must close it with 1009.
func topicJunk(ctx context.Context, s *scenario) {
	const rounds = 20
	var frames, tooBig atomic.Int64
	besideGoodMember(ctx, s, func() {
		parallel(rounds, 10, func(i int) {
			t, err := s.dialTopics(ctx, attackerAddr(i))
			if err != nil {
				s.fail("dial: %v", err)
				return
			}
			defer t.Close()
			t.SetDeadline(time.Now().Add(30 * time.Second))
			for _, text := range topicJunkTexts {
				if err := t.send(text); err != nil {
					s.fail("after junk: %v", err)
				}
				frames.Add(1)
			}
			if err := t.send(`{"type":"ping"}`); err != nil {
				s.fail("after junk: %v", err)
			}
			if _, text, err := t.receive(); string(text) != `{"type":"pong"}` {
				s.fail("after junk: got %q and %v, want a pong", text, err)
			}
			go t.send(strings.Repeat(" ", largeFrameBytes)) // the connection is closed meanwhile
			if first, payload, err := t.receive(); first == finalClose && len(payload) >= 2 && binary.BigEndian.Uint16(payload) == 1009 {
				tooBig.Add(1)
			} else {
				s.fail("a frame of 8 MiB: got %#x %q and %v, want a close frame with 1009", first, payload, err)
			}
		})
	})
	s.addFigure("%d frames of junk ignored, %d of 8 MiB refused with 1009", frames.Load(), tooBig.Load())
}
