package attack

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// webSocketAttacks returns the attacks on WebSockets.
func webSocketAttacks(seconds time.Duration) []attack {
	return []attack{
		{name: "WebSocket: sends at full speed", run: floodFrames(2*seconds*time.Second, func(n int) string {
			return wsFrame(fin|opText, fmt.Sprintf("send %d nobody text x", n))
		})},
		{name: "WebSocket: pings at full speed", run: floodFrames(2*seconds*time.Second, same(wsFrame(fin|opPing, "x")))},
		{name: "WebSocket: pongs at full speed", run: floodFrames(2*seconds*time.Second, same(wsFrame(fin|opPong, "")))},
		{name: "WebSocket: empty fragments without end", run: floodFrames(2*seconds*time.Second, same(wsFrame(opContinuation, "")))},
		{name: "WebSocket: fragments without end", run: largeFragments},
		{name: "WebSocket: incomplete messages of 1 MiB", run: halfMessages},
		{name: "WebSocket: 1,000 upgrades at once", run: manyUpgrades},
		{name: "WebSocket: broken frames", run: brokenFrames},
		{name: "WebSocket: broken dialogues", run: brokenDialogues},
		{name: "WebSocket: wrong passwords", run: wrongHellos},
		{name: "WebSocket: pings whose pongs are never read", run: pongsUnread},
		{name: "WebSocket: supersede storm", run: supersedeStorm(true)},
		{name: "WebSocket: half frames", slow: true, run: halfFrames},
		{name: "WebSocket: no hello", slow: true, run: noHello},
		{name: "WebSocket: messages never read", slow: true, timeout: 2 * time.Minute, flags: largeMessages, memory: 1536 << 20, run: unreadFrames},
	}
}

// same returns the same frame as the n-th.
func same(frame string) func(n int) string { return func(int) string { return frame } }

// floodFrames writes frames as fast as the server reads, on connections of four addresses.
func floodFrames(d time.Duration, frame func(n int) string) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		const conns, addrs = 200, 4
		flooding, stop := context.WithTimeout(ctx, d+20*time.Second)
		defer stop()
		var open []*wsConn
		var mu sync.Mutex
		parallel(conns, conns, func(i int) {
			w, err := s.helloWS(flooding, attackerAddr(i%addrs), fmt.Sprint("flood", i%addrs, "-", i/addrs%50), " after=")
			if err == nil && frame(1)[0]&15 == opContinuation {
				_, err = io.WriteString(w, wsFrame(opText, "send "))
			}
			if err != nil {
				return // superseded, or the budget of new names or of requests is used up
			}
			mu.Lock()
			defer mu.Unlock()
			open = append(open, w)
		})
		before, began := s.cpu(), time.Now()
		var written, ended atomic.Int64
		parallel(len(open), len(open), func(i int) {
			c := open[i]
			c.SetDeadline(began.Add(d))
			go io.Copy(io.Discard, c.reader)
			n, err := 0, error(nil)
			for err == nil {
				var block strings.Builder
				for range 200 {
					n++
					block.WriteString(frame(n))
				}
				_, err = io.WriteString(c, block.String())
			}
			if written.Add(int64(n)); !isTimeout(err) {
				ended.Add(1)
			}
		})
		busy := s.cpu() - before
		for _, w := range open {
			w.hangUp()
		}
		s.addFigure("%d connections of %d addresses, %d frames written in %v, %d connections ended, %d ms of CPU",
			len(open), addrs, written.Load(), d, ended.Load(), busy.Milliseconds())
		if len(open) < conns/2 {
			s.fail("got %d connections, want %d at least", len(open), conns/2)
		}
		if most := d / 2; busy > most {
			s.fail("got %v of CPU time in %v, want at most %v", busy, d, most)
		}
	}
}

// largeFragments sends messages without an end on many connections.
func largeFragments(ctx context.Context, s *scenario) {
	const conns = 200
	part := wsFrame(opContinuation, strings.Repeat("x", 16<<10))
	var sent, refused atomic.Int64
	parallel(conns, conns, func(i int) {
		from := attackerAddr(i / 25)
		w, err := s.helloWS(ctx, from, fmt.Sprint("fragments", i), "")
		if err != nil {
			refused.Add(1) // its address has used up its requests
			return
		}
		w.SetWriteDeadline(time.Now().Add(2 * time.Second))
		_, err = io.WriteString(w, wsFrame(opText, "send 1 nobody text "))
		for err == nil {
			if _, err = io.WriteString(w, part); err == nil {
				sent.Add(16 << 10)
			}
		}
		if !isTimeout(err) {
			refused.Add(1)
		}
	})
	sleep(ctx, time.Second)
	s.addFigure("%d connections of 8 addresses, %d MiB sent, %d ended", conns, sent.Load()>>20, refused.Load())
}

// halfMessages sends all bytes of a large message but the last, on each of many connections. Only
// the in-flight body budget bounds it: a frame takes its token when it is complete.
func halfMessages(ctx context.Context, s *scenario) {
	const conns = 800
	head := "send 1 nobody bytes "
	part := string(wsHeader(fin|opText, 1<<20)) + head + strings.Repeat("x", 1<<20-len(head)-1)
	var sent, refused atomic.Int64
	parallel(conns, 16, func(i int) {
		w, err := s.helloWS(ctx, attackerAddr(i/50), fmt.Sprint("half", i), "")
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		w.SetWriteDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(w, part); err != nil {
			refused.Add(1)
			return
		}
		sent.Add(1)
	})
	sleep(ctx, time.Second)
	s.addFigure("%d messages of 1 MiB less one byte on %d connections, %d refused while sending", sent.Load(), conns, refused.Load())
}

// manyUpgrades opens a thousand WebSockets at once, of one address and of twenty.
func manyUpgrades(ctx context.Context, s *scenario) {
	for _, addrs := range []int{1, 20} {
		upgrading, stop := context.WithTimeout(ctx, 20*time.Second)
		var accepted, refused, failed atomic.Int64
		parallel(1000, 1000, func(i int) {
			w, status, _ := s.dialWS(upgrading, attackerAddr(20*addrs+i%addrs), "")
			switch {
			case w != nil:
				accepted.Add(1)
			case status > 0:
				refused.Add(1)
			default:
				failed.Add(1)
			}
		})
		s.addFigure("%s: %d accepted, %d refused, %d connections closed", addresses(addrs), accepted.Load(), refused.Load(), failed.Load())
		if n := accepted.Load(); n == 0 || n > int64(addrs)*256 {
			s.fail("%s: got %d WebSockets, want at most 256 of each address", addresses(addrs), n)
		}
		if addrs > 1 {
			s.checkNewClient(ctx, 64<<10)
		}
		stop()
	}
}

// brokenFrames sends one invalid frame on each connection.
func brokenFrames(ctx context.Context, s *scenario) {
	masked := wsFrame(fin|opText, "ack 1")
	cases := []struct {
		name, bytes string
		want        []int
	}{
		{"without a mask", "\x81\x05ack 1", []int{1002}},
		{"RSV1, as if compressed", wsFrame(fin|0x40|opText, "x"), []int{1002}},
		{"RSV2", wsFrame(fin|0x20|opText, "x"), []int{1002}},
		{"RSV3", wsFrame(fin|0x10|opText, "x"), []int{1002}},
		{"unknown opcode 3", wsFrame(fin|3, "x"), []int{1002}},
		{"unknown opcode 11", wsFrame(fin|11, ""), []int{1002}},
		{"continuation of nothing", wsFrame(fin|opContinuation, "x"), []int{1002}},
		{"text in a fragmented text", wsFrame(opText, "x") + masked, []int{1002}},
		{"fragmented ping", wsFrame(opPing, "x"), []int{1002}},
		{"ping of 126 bytes", wsFrame(fin|opPing, strings.Repeat("x", 126)), []int{1002}},
		{"close of one byte", wsFrame(fin|opClose, "x"), []int{1002}},
		{"close with code 1005", wsFrame(fin|opClose, "\x03\xed"), []int{1002}},
		{"close with invalid UTF-8", wsFrame(fin|opClose, "\x03\xe8\xff"), []int{1007}},
		{"invalid UTF-8", wsFrame(fin|opText, "send 1 a text \xff"), []int{1007}},
		{"UTF-8 that is cut by fragments", wsFrame(opText, "send 1 a text \xf0") + wsFrame(fin|opContinuation, "x"), []int{1007}},
		{"length that is not the shortest", "\x81\xfe\x00\x05\x00\x00\x00\x00ack 1", []int{1002}},
		{"length of 8 EiB", string(wsHeader(fin|opText, math.MaxInt64)), []int{1009, 1002}},
		{"length above 8 EiB", string(wsHeader(fin|opText, math.MaxUint64)), []int{1009, 1002}},
		{"frame of 64 MiB", string(wsHeader(fin|opText, 64<<20)) + strings.Repeat("x", 1<<20), []int{1009}},
		{"fragments of 64 MiB", wsFrame(opText, "x") + string(wsHeader(opContinuation, 64<<20)), []int{1009}},
		{"no frame but HTTP", "GET /inbox HTTP/1.1\r\nHost: a\r\n\r\n", []int{1002}},
	}
	parallel(len(cases), 4, func(i int) {
		b := cases[i]
		w, err := s.helloWS(ctx, attackerAddr(i), fmt.Sprint("broken", i), "")
		if err != nil {
			s.fail("%s: %v", b.name, err)
			return
		}
		defer w.Close()
		go io.WriteString(w, b.bytes)
		if code, err := w.closeCode(20 * time.Second); err != nil || !slices.Contains(b.want, code) {
			s.fail("%s: got code %d, %v; want one of %v", b.name, code, err, b.want)
		}
	})
	s.addFigure("%d cases, each closed with a code", len(cases))
	s.offerCompression(ctx)
}

// offerCompression offers extensions, which the server must not select.
func (s *scenario) offerCompression(ctx context.Context) {
	for i, offer := range []string{"permessage-deflate", "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame", strings.Repeat("permessage-deflate, ", 400) + "x"} {
		w, status, err := s.dialWS(ctx, attackerAddr(50+i), "Sec-WebSocket-Extensions: "+offer+"\r\n")
		if err != nil || w == nil {
			s.fail("%.40s: got %d, %v, want an upgrade", offer, status, err)
			continue
		}
		if err := w.hello(fmt.Sprint("compressed", i), ""); err != nil {
			s.fail("%.40s: %v", offer, err)
		}
		w.Close()
	}
}

// brokenDialogues sends frames in an order that the protocol forbids.
func brokenDialogues(ctx context.Context, s *scenario) {
	cases := []struct {
		name, hello string
		frames      []string
		want        int
	}{
		{"send before hello", "", []string{"send 1 a text x"}, 1008},
		{"ack before hello", "", []string{"ack 1"}, 1008},
		{"hello of 2 KiB", "", []string{"hello a " + strings.Repeat("x", 2<<10)}, 1009},
		{"hello without a password", "", []string{"hello a"}, 1008},
		{"invalid name", "", []string{"hello a%00 x"}, 1008},
		{"second hello", "after=", []string{"hello a b"}, 1008},
		{"REF twice", "after=", []string{"send 1 nobody text x", "send 1 nobody text x"}, 1008},
		{"REF below the last", "after=", []string{"send 7 nobody text x", "send 6 nobody text x"}, 1008},
		{"REF 0", "after=", []string{"send 0 nobody text x"}, 1008},
		{"ack of what was not sent", "after=", []string{"ack 1790000000000000"}, 1008},
		{"ack of the largest number", "after=", []string{"ack 18446744073709551615"}, 1008},
		{"ack above the largest number", "after=", []string{"ack 18446744073709551616"}, 1008},
		{"ack 0", "after=", []string{"ack 0"}, 1008},
		{"unknown verb", "after=", []string{"subscribe *"}, 1008},
		{"empty frame", "after=", []string{""}, 1008},
	}
	parallel(len(cases), len(cases), func(i int) {
		b, name := cases[i], fmt.Sprint("dialogue", i)
		w, _, err := s.dialWS(ctx, attackerAddr(i), "")
		if err != nil || w == nil {
			s.fail("%s: %v", b.name, err)
			return
		}
		if b.hello != "" {
			err = w.hello(name, " "+b.hello)
		}
		for _, frame := range b.frames {
			if err == nil {
				err = w.text(frame)
			}
		}
		if err != nil {
			s.fail("%s: %v", b.name, err)
		} else if code, err := w.closeCode(20 * time.Second); err != nil || code != b.want {
			s.fail("%s: got code %d, %v; want %d", b.name, code, err, b.want)
		}
		w.Close()
	})
	s.addFigure("%d cases, each closed with a code", len(cases))
}

// wrongHellos guesses a password by hello.
func wrongHellos(ctx context.Context, s *scenario) {
	owner, err := s.helloWS(ctx, clientAddr, "owner", " after=")
	if err != nil {
		s.fail("owner: %v", err)
		return
	}
	var compared, limited atomic.Int64
	parallel(200, 8, func(i int) {
		w, status, err := s.dialWS(ctx, attackerAddr(0), "")
		if w == nil {
			if status != http.StatusTooManyRequests && err == nil {
				s.fail("upgrade: got %d", status)
			}
			limited.Add(1)
			return
		}
		defer w.Close()
		w.SetDeadline(time.Now().Add(20 * time.Second))
		_ = w.text(fmt.Sprint("hello owner guess", i))
		switch _, answer, err := w.readFrame(); {
		case err != nil:
			limited.Add(1)
		case strings.Contains(answer, `"status":401`), strings.Contains(answer, `"status": 401`):
			compared.Add(1)
		case strings.Contains(answer, `429`):
			limited.Add(1)
		default:
			s.fail("guess: got %q", answer)
		}
	})
	s.addFigure("%d guesses compared, %d refused", compared.Load(), limited.Load())
	if n := compared.Load(); n == 0 || n > 14 {
		s.fail("got %d compared guesses, want 1 to 14", n)
	}
	owner.SetDeadline(time.Now().Add(20 * time.Second))
	if err := owner.send("owner", "still here"); err != nil {
		s.fail("owner: %v", err)
	}
	for range 2 {
		if _, frame, err := owner.readFrame(); err != nil || !strings.HasPrefix(frame, "msg ") && frame != "ok 1" {
			s.fail("owner: got %q, %v", frame, err)
		}
	}
}

// pongsUnread makes the server write pongs that are never read.
func pongsUnread(ctx context.Context, s *scenario) {
	const conns = 200
	var refused atomic.Int64
	ping := strings.Repeat(wsFrame(fin|opPing, strings.Repeat("x", 125)), 30)
	var sent atomic.Int64
	parallel(conns, conns, func(i int) {
		c, err := s.dialSmallBuffer(ctx, attackerAddr(i/25), "http/1.1")
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		w, _, err := startWS(c, "")
		if err != nil || w == nil {
			refused.Add(1) // its address has used up its requests
			return
		}
		w.SetWriteDeadline(time.Now().Add(2 * time.Second))
		for err == nil {
			var n int
			n, err = io.WriteString(w, ping)
			sent.Add(int64(n))
		}
	})
	s.addFigure("%d connections, %d refused, %d KiB of pings sent", conns, refused.Load(), sent.Load()>>10)
}

// halfFrames begins a frame, or a message, and does not end it.
func halfFrames(ctx context.Context, s *scenario) {
	begun := []string{
		"\x81", "\x81\xfe", string(wsHeader(fin|opText, 100)), wsFrame(fin|opText, "send 1 a text x")[:10], wsFrame(opText, "send 1 a"),
		wsFrame(opText, "send 1 a") + string(wsHeader(opContinuation, 60<<10)) + strings.Repeat("x", 50<<10), string(wsHeader(fin|opPing, 100)) + "x",
	}
	const conns, most = 200, 30 * time.Second
	var closed atomic.Int64
	var mu sync.Mutex
	var times []time.Duration
	parallel(conns, conns, func(i int) {
		w, err := s.helloWS(ctx, attackerAddr(i/10), fmt.Sprint("half", i), "")
		if err == nil {
			_, err = io.WriteString(w, begun[i%len(begun)])
		}
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		began := time.Now()
		if code, err := w.closeCode(most + 20*time.Second); err != nil || code != 1008 {
			s.fail("after %.20q: got code %d, %v; want 1008", begun[i%len(begun)], code, err)
			return
		}
		closed.Add(1)
		mu.Lock()
		defer mu.Unlock()
		times = append(times, time.Since(began))
	})
	s.addFigure("%d of %d closed, the last after %.1f s", closed.Load(), conns, percentile(times, 1).Seconds())
}

// noHello opens WebSockets and says nothing, or pings only.
func noHello(ctx context.Context, s *scenario) {
	const conns, most = 200, 10 * time.Second
	var mu sync.Mutex
	var times []time.Duration
	parallel(conns, conns, func(i int) {
		w, _, err := s.dialWS(ctx, attackerAddr(i/10), "")
		if err != nil || w == nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		began := time.Now()
		if i%2 == 0 {
			go func() {
				for {
					if _, err := io.WriteString(w, wsFrame(fin|opPing, "")); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}()
		}
		if code, err := w.closeCode(most + 20*time.Second); err != nil || code != 1008 {
			s.fail("connection %d: got code %d, %v; want 1008", i, code, err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		times = append(times, time.Since(began))
	})
	s.addFigure("%d of %d closed, the last after %.1f s", len(times), conns, percentile(times, 1).Seconds())
}

// unreadFrames has messages that exceed the kernel's buffers written to clients that do not read.
func unreadFrames(ctx context.Context, s *scenario) {
	s.leaveUnread(ctx, "after 30 s", func(i int, name string) error {
		c, err := s.dialSmallBuffer(ctx, attackerAddr(i), "http/1.1")
		if err != nil {
			return err
		}
		w, status, err := startWS(c, "Authorization: "+basic(name)+"\r\n")
		if err == nil && w == nil {
			err = fmt.Errorf("upgrade: got %d", status)
		}
		return err
	})
}
