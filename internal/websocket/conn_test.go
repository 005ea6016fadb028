package websocket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// onTransports runs a test over each kind of connection.
func onTransports(t *testing.T, f func(t *testing.T, transport string)) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			f(t, transport)
		})
	}
}

func wantCloseError(t *testing.T, err error, want CloseError) {
	t.Helper()
	var got *CloseError
	if !errors.As(err, &got) || *got != want {
		t.Errorf("got %v, want %v", err, &want)
	}
}

func TestMessages(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{})
		c := s.dial(t)
		h := <-handlers
		c.send(frames(text("one"), clientFrame(fin|opBinary, "two"), clientFrame(fin|opPong, "three"), fragments(opText, "four", 1)))
		for _, want := range []string{"1 one", "2 two", "pong three", "1 four"} {
			if got := h.next(t); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		h.conn.Write(Text, []byte("head "), []byte("body"), nil)
		c.wantFrame(fin|opText, "head body")
		h.conn.Write(Binary)
		c.wantFrame(fin|opBinary, "")
		h.conn.Ping([]byte("ping"))
		c.wantFrame(fin|opPing, "ping")
		if err := h.conn.Ping(make([]byte, 126)); err == nil {
			t.Error("a ping of 126 bytes was sent")
		}
	})
}

func TestClientCloses(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{})
		c := s.dial(t)
		h := <-handlers
		c.send(closeFrame(4001, "bye"))
		c.wantClose(4001)
		wantCloseError(t, h.end(t), CloseError{4001, "bye", true})
		if err := h.conn.Write(Text, nil); err == nil {
			t.Error("a write after the end succeeded")
		}
		h.conn.Close(NormalClosure, "") // does nothing
		h.conn.Wake()
	})
}

func TestServerCloses(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{})
		c := s.dial(t)
		h := <-handlers
		h.conn.Close(4000, strings.Repeat("é", 100))
		h.conn.Close(4002, "later")
		if err := h.conn.Write(Text, []byte("late")); err != ErrClosing {
			t.Errorf("got %v, want ErrClosing", err)
		}
		first, payload, err := c.readFrame()
		if want := closePayload(4000, strings.Repeat("é", 61)); err != nil || first != fin|opClose || payload != want {
			t.Errorf("got %#x %q, %v; want %q", first, payload, err, want)
		}
		c.send(frames(text("dropped"), clientFrame(fin|opPing, "dropped"), closeFrame(4000, "")))
		c.wantEnd()
		wantCloseError(t, h.end(t), CloseError{4000, strings.Repeat("é", 100), false})
		if len(h.events) > 0 {
			t.Errorf("got %q after Close", h.next(t))
		}
	})
}

func TestCloseTimeout(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{CloseTimeout: 50 * time.Millisecond, PingInterval: time.Hour})
		c := s.dial(t)
		h := <-handlers
		h.conn.Close(NormalClosure, "")
		wantCloseError(t, h.end(t), CloseError{NormalClosure, "", false})
		c.wantClose(NormalClosure)
	})
}

// TestBrokenProtocol checks that a client that goes on after its mistake gets the close frame.
func TestBrokenProtocol(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{})
		c := s.dial(t)
		h := <-handlers
		c.send(frames(text("x"), clientFrame(fin|0x40|opText, "y"), []byte(strings.Repeat("z", 100<<10))))
		if reason := c.wantClose(ProtocolError); !strings.Contains(reason, "rsv") {
			t.Errorf("got the reason %q", reason)
		}
		c.conn.Close()
		var got *CloseError
		if err := h.end(t); !errors.As(err, &got) || got.Code != ProtocolError || got.Remote {
			t.Errorf("got %v", err)
		}
	})
}

func TestMessageTooBig(t *testing.T) {
	s, handlers := recordedServer(t, "plain", Config{MaxMessageBytes: 100}, func(h *recorder) { h.conn.SetMaxMessageBytes(10) })
	c := s.dial(t)
	h := <-handlers
	c.send(text(strings.Repeat("x", 10)))
	h.next(t)
	c.send(text(strings.Repeat("x", 11)))
	c.wantClose(MessageTooBig)
}

// TestHugeFrame sends a frame that is much too large, of which little is read.
func TestHugeFrame(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		for _, hangsUp := range []bool{true, false} {
			s, handlers := recordedServer(t, transport, Config{MaxMessageBytes: 1000, CloseTimeout: time.Second})
			c := s.dial(t)
			h := <-handlers
			const size = 1 << 30
			began, sent, chunk := time.Now(), make(chan int), make([]byte, 1<<20)
			c.send(appendLength([]byte{fin | opText}, size, 0x80))
			go func() {
				n := 0
				for err := error(nil); err == nil && n < size; n += len(chunk) {
					_, err = c.conn.Write(chunk)
				}
				sent <- n
			}()
			if first, payload, err := c.readFrame(); first != fin|opClose || !strings.HasPrefix(payload, closePayload(MessageTooBig, "")) {
				t.Errorf("got %#x %q, %v, want a close frame with 1009", first, cut(payload), err)
			}
			if hangsUp {
				c.hangUp()
			}
			wantCloseError(t, h.end(t), CloseError{Code: MessageTooBig, Reason: "the message is too large"})
			if after := time.Since(began); !hangsUp && after < time.Second {
				t.Errorf("closed after %v, when the client can have missed the close frame", after)
			}
			if n := <-sent; n >= size {
				t.Errorf("all %d bytes were read", n)
			}
		}
	})
}

func TestConnectionBreaks(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{})
		c := s.dial(t)
		h := <-handlers
		c.send(text("whole")[:4])
		c.conn.Close()
		if err := h.end(t); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v, want the end of the stream", err)
		}
	})
}

func TestIncompleteMessageTimesOut(t *testing.T) {
	for name, part := range map[string][]byte{
		"header": text("x")[:1], "payload": text("xxx")[:7], "fragment": clientFrame(opText, "x"), "control": clientFrame(fin|opPing, "x")[:6],
	} {
		t.Run(name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, transport string) {
				s, handlers := recordedServer(t, transport, Config{MessageTimeout: 50 * time.Millisecond})
				c := s.dial(t)
				<-handlers
				c.send(part)
				c.wantClose(PolicyViolation)
			})
		})
	}
}

// TestTimeoutOfCompleteMessage checks that the deadline of a message ends with it.
func TestTimeoutOfCompleteMessage(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		const timeout = 2 * time.Second
		s := newTestServer(t, transport, Config{MessageTimeout: timeout}, echoHandler)
		c := s.dial(t)
		c.send(text("x")[:3])
		c.send(text("x")[3:])
		c.wantFrame(fin|opText, "x")
		time.Sleep(timeout + timeout/10)
		c.send(text("y"))
		c.wantFrame(fin|opText, "y")
	})
}

func TestPings(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{PingInterval: time.Second})
		c := s.dial(t)
		h := <-handlers
		c.wantFrame(fin|opPing, "")
		c.send(clientFrame(fin|opPong, ""))
		if got := h.next(t); got != "pong " {
			t.Errorf("got %q, want a pong", got)
		}
		for range maxMissedPings {
			c.wantFrame(fin|opPing, "")
		}
		if err := h.end(t); err != ErrNoPong {
			t.Errorf("got %v, want ErrNoPong", err)
		}
	})
}

func TestClientThatDoesNotRead(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{WriteTimeout: 100 * time.Millisecond})
		s.dial(t)
		h := <-handlers
		payload := make([]byte, 1<<20)
		for {
			if err := h.conn.Write(Binary, payload); err != nil {
				if err != ErrNotReading {
					t.Errorf("got %v, want ErrNotReading", err)
				}
				break
			}
		}
		if err := h.end(t); err != ErrNotReading {
			t.Errorf("got %v, want ErrNotReading", err)
		}
	})
}

// TestConcurrentWrites checks that frames do not mix.
func TestConcurrentWrites(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{})
		c := s.dial(t)
		h := <-handlers
		var writers sync.WaitGroup
		for i := range 4 {
			writers.Go(func() {
				for j := range 50 {
					h.conn.Write(Text, fmt.Appendf(nil, "%d", i), []byte(strings.Repeat("x", 10*j)))
				}
			})
		}
		for range 200 {
			if first, payload, err := c.readFrame(); err != nil || first != fin|opText || strings.Trim(payload[1:], "x") != "" {
				t.Fatalf("got %#x %q, %v", first, payload, err)
			}
		}
		writers.Wait()
	})
}

func TestAllowDelaysReading(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		var asked atomic.Int64
		var kinds [Close + 1]atomic.Int64
		s, handlers := recordedServer(t, transport, Config{}, func(h *recorder) {
			h.allow = func(k Kind) time.Duration {
				if asked.Add(1)%2 == 1 {
					return time.Millisecond
				}
				kinds[k].Add(1)
				return 0
			}
		})
		c := s.dial(t)
		h := <-handlers
		c.send(frames(fragments(opText, "abc", 1), clientFrame(fin|opBinary, "d"), clientFrame(fin|opPing, ""), clientFrame(fin|opPong, ""), closeFrame(1000, "")))
		c.wantClose(1000)
		wantCloseError(t, h.end(t), CloseError{1000, "", true})
		for k, want := range map[Kind]int64{Text: 1, Binary: 1, Fragment: 2, Ping: 1, Pong: 1, Close: 1} {
			if got := kinds[k].Load(); got != want {
				t.Errorf("kind %d was allowed %d times, want %d", k, got, want)
			}
		}
	})
}

// TestPauseEnds checks that what ends a connection does not wait for its handler to allow a frame,
// and that Woken is called meanwhile.
func TestPauseEnds(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		paused := make(chan bool, 1)
		s, handlers := recordedServer(t, transport, Config{CloseTimeout: time.Millisecond}, func(h *recorder) {
			h.allow = func(Kind) time.Duration {
				paused <- true
				return time.Hour
			}
		})
		c := s.dial(t)
		h := <-handlers
		c.send(text("x"))
		<-paused
		h.conn.Wake()
		if got := h.next(t); got != "woken" {
			t.Errorf("got %q", got)
		}
		h.conn.Close(NormalClosure, "")
		h.end(t)
	})
}

func TestWake(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{PingInterval: time.Hour})
		c := s.dial(t)
		h := <-handlers
		for range 100 {
			h.conn.Wake()
			h.next(t)
		}
		c.send(text("x"))
		for got := h.next(t); got != "1 x"; got = h.next(t) {
		}
	})
}

// TestWakeIsNotLost wakes a connection from many goroutines while messages arrive.
func TestWakeIsNotLost(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		var pending, done atomic.Int64
		all := make(chan bool)
		const total = 4 * 500
		s, handlers := recordedServer(t, transport, Config{}, func(h *recorder) {
			h.echo = true
			h.onWake = func() {
				if done.Add(pending.Swap(0)) == total {
					close(all)
				}
			}
		})
		c := s.dial(t)
		h := <-handlers
		for range 4 {
			go func() {
				for range 500 {
					pending.Add(1)
					h.conn.Wake()
				}
			}()
		}
		go func() {
			for range 200 {
				c.send(text("x"))
			}
		}()
		for range 200 {
			c.wantFrame(fin|opText, "x")
		}
		select {
		case <-all:
		case <-time.After(testTimeout):
			t.Errorf("%d of %d were handled, %d are left", done.Load(), total, pending.Load())
		}
	})
}

// slowHandler takes longer for a message than its client needs to send the next ones.
type slowHandler struct{ *recorder }

func (slowHandler) Message(Kind, []byte) { time.Sleep(100 * time.Microsecond) }

// TestWokenWhileMuchArrives checks that Woken is called for a client that never stops to send.
func TestWokenWhileMuchArrives(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		handlers := make(chan *recorder, 1)
		s := newTestServer(t, transport, Config{PingInterval: time.Hour}, func(c *Conn) Handler {
			h := newRecorder(c)
			h.onWake = func() {
				h.events <- "woken"
				c.WakeAt(time.Now().Add(time.Millisecond))
				h.onWake = nil
			}
			handlers <- h
			return slowHandler{h}
		})
		c := s.dial(t)
		h := <-handlers
		much := bytes.Repeat(text("x"), 1000)
		var sending sync.WaitGroup
		defer sending.Wait()
		defer c.conn.Close()
		sending.Go(func() {
			for err := error(nil); err == nil; {
				_, err = c.conn.Write(much)
			}
		})
		time.Sleep(20 * time.Millisecond) // until much waits to be read
		h.conn.Wake()
		h.next(t) // after Wake
		h.next(t) // after WakeAt
	})
}

func TestWakeAt(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		woken := make(chan time.Duration, 10)
		var began time.Time
		s, handlers := recordedServer(t, transport, Config{}, func(h *recorder) {
			began = time.Now()
			h.conn.WakeAt(began.Add(time.Hour))
			h.conn.WakeAt(time.Time{})
			h.conn.WakeAt(began.Add(30 * time.Millisecond))
			h.onWake = func() { woken <- time.Since(began) }
		})
		s.dial(t)
		<-handlers
		select {
		case after := <-woken:
			if after < 30*time.Millisecond {
				t.Errorf("woken after %v", after)
			}
		case <-time.After(testTimeout):
			t.Error("not woken")
		}
	})
}

// bufferHandler accounts for incomplete messages.
type bufferHandler struct {
	*recorder
	max, used atomic.Int64
}

func (h *bufferHandler) Buffer(more int) bool {
	used := h.used.Add(int64(more))
	if more > 0 && used > h.max.Load() {
		h.used.Add(-int64(more))
		return false
	}
	return true
}

func TestBuffering(t *testing.T) {
	handlers := make(chan *bufferHandler, 1)
	// What the client has not sent yet hides that it closes.
	s := newTestServer(t, "plain", Config{CloseTimeout: 5 * time.Second}, func(c *Conn) Handler {
		h := &bufferHandler{recorder: newRecorder(c)}
		h.max.Store(100 << 10)
		handlers <- h
		return h
	})
	c := s.dial(t)
	h := <-handlers
	c.send(text(strings.Repeat("x", 60<<10)))
	h.next(t)
	c.send(text("x"))
	h.next(t)
	if used := h.used.Load(); used != 0 {
		t.Errorf("%d bytes are used after the message", used)
	}
	go c.conn.Write(text(strings.Repeat("x", 300<<10)))
	c.wantClose(TryAgainLater)
	c.conn.Close()
	h.end(t)
	if used := h.used.Load(); used != 0 {
		t.Errorf("%d bytes are used after the end", used)
	}
}

func TestPanicEndsConnection(t *testing.T) {
	s, handlers := recordedServer(t, "plain", Config{}, func(h *recorder) {
		h.allow = func(Kind) time.Duration { panic("test of a panic") }
	})
	c := s.dial(t)
	h := <-handlers
	c.send(text("x"))
	c.wantClose(InternalError)
	wantCloseError(t, h.end(t), CloseError{InternalError, "", false})
}

func TestConnsClose(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{})
		var clients []*testClient
		for range 3 {
			clients = append(clients, s.dial(t))
			<-handlers
		}
		s.waitConns(t, 3)
		s.conns.Close(GoingAway, "stopping")
		clients = append(clients, s.dial(t)) // one that is late
		for _, c := range clients {
			c.send(closeFrame(GoingAway, ""))
			c.wantClose(GoingAway)
		}
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		if err := s.conns.Wait(ctx); err != nil || s.conns.Len() != 0 {
			t.Errorf("got %v with %d connections left", err, s.conns.Len())
		}
	})
}

func TestConnsWaitAborts(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{})
		c := s.dial(t)
		h := <-handlers
		s.waitConns(t, 1)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.conns.Wait(ctx); err != context.Canceled {
			t.Errorf("got %v", err)
		}
		if err := h.end(t); err != errAborted {
			t.Errorf("got %v, want errAborted", err)
		}
		if _, _, err := c.readFrame(); err == nil || errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want the end of the connection", err)
		}
	})
}

// TestPausedClientHangsUp checks that the end of a client is noticed behind frames that are not
// allowed yet.
func TestPausedClientHangsUp(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		paused := make(chan bool, 1)
		s, handlers := recordedServer(t, transport, Config{}, func(h *recorder) {
			h.allow = func(Kind) time.Duration {
				paused <- true
				return time.Hour
			}
		})
		c := s.dial(t)
		h := <-handlers
		c.send(frames(text("x"), text("y")))
		<-paused
		c.conn.Close()
		if err := h.end(t); err != io.EOF {
			t.Errorf("got %v, want io.EOF", err)
		}
	})
}

// TestRefusalsDoubleTheWait checks that connections that share a budget do not ask for it all the
// time.
func TestRefusalsDoubleTheWait(t *testing.T) {
	var asked atomic.Int64
	began := time.Now()
	s, handlers := recordedServer(t, "plain", Config{}, func(h *recorder) {
		h.allow = func(Kind) time.Duration {
			asked.Add(1)
			return max(0, min(time.Millisecond, time.Second-time.Since(began)))
		}
	})
	c := s.dial(t)
	h := <-handlers
	c.send(text("x"))
	if got := h.next(t); got != "1 x" {
		t.Errorf("got %q", got)
	}
	if n := asked.Load(); n > 20 {
		t.Errorf("asked %d times in a second, want 20 at most", n)
	}
}

// TestWakeAtDuringPause checks that what is due is done although the next frame is not allowed.
func TestWakeAtDuringPause(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{}, func(h *recorder) {
			n := 0
			h.allow = func(Kind) time.Duration {
				if n++; n == 1 {
					h.conn.WakeAt(time.Now().Add(20 * time.Millisecond))
					return 0
				}
				return time.Hour
			}
		})
		c := s.dial(t)
		h := <-handlers
		c.send(frames(text("x"), text("y")))
		for _, want := range []string{"1 x", "woken"} {
			if got := h.next(t); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		h.conn.Close(NormalClosure, "")
		c.conn.Close()
		h.end(t)
	})
}

// TestWokenAgainAndAgain checks that a connection is read although Wake is called all the time.
func TestWokenAgainAndAgain(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{}, func(h *recorder) {
			h.onWake = func() { h.conn.Wake() }
		})
		c := s.dial(t)
		h := <-handlers
		h.conn.Wake()
		for range 3 {
			c.send(text("x"))
			if got := h.next(t); got != "1 x" {
				t.Errorf("got %q", got)
			}
		}
		c.send(closeFrame(1000, ""))
		wantCloseError(t, h.end(t), CloseError{1000, "", true})
	})
}

// TestRest checks that a connection goes on after it has rested, with its state.
func TestRest(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s, handlers := recordedServer(t, transport, Config{PingInterval: time.Hour})
		c := s.dial(t)
		h := <-handlers
		message := clientFrame(fin|opText, "in two parts")
		c.send(message[:9])
		time.Sleep(restAfter + restAfter/2)
		c.send(message[9:])
		if got := h.next(t); got != "1 in two parts" {
			t.Errorf("got %q", got)
		}
		time.Sleep(restAfter + restAfter/2)
		h.conn.Wake()
		if got := h.next(t); got != "woken" {
			t.Errorf("got %q", got)
		}
		c.send(closeFrame(1000, ""))
		c.wantClose(1000)
		wantCloseError(t, h.end(t), CloseError{1000, "", true})
	})
}
