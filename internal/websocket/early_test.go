package websocket

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// queueHandler writes what was pushed, in its order.
type queueHandler struct {
	*recorder
	early, late atomic.Int64 // frames written by WokenEarly and Woken
	again       time.Duration

	mu     sync.Mutex
	frames []string
}

func (h *queueHandler) push(frame string) {
	h.mu.Lock()
	h.frames = append(h.frames, frame)
	h.mu.Unlock()
	h.conn.TryWake()
}

func (h *queueHandler) pop() (frame []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.frames) == 0 {
		return nil
	}
	frame = []byte(h.frames[0])
	h.frames = h.frames[1:]
	return frame
}

func (h *queueHandler) Woken() {
	for frame := h.pop(); frame != nil; frame = h.pop() {
		h.late.Add(1)
		if h.conn.WriteAndPing(frame, nil) != nil {
			return
		}
	}
}

func (h *queueHandler) WokenEarly() bool {
	if h.again != 0 {
		h.conn.WakeAt(time.Now().Add(h.again))
		return true
	}
	for frame := h.pop(); frame != nil; frame = h.pop() {
		h.early.Add(1)
		if hasRoom, err := h.conn.WriteAndPingEarly(frame, []byte("p")); !hasRoom || err != nil {
			return false
		}
	}
	return true
}

// queueServer returns a connection, and the handler of the server.
func queueServer(t *testing.T, transport string, config Config, set func(*queueHandler)) (*testClient, *queueHandler) {
	handlers := make(chan *queueHandler, 1)
	s := newTestServer(t, transport, config, func(c *Conn) Handler {
		h := &queueHandler{recorder: newRecorder(c)}
		if set != nil {
			set(h)
		}
		handlers <- h
		return h
	})
	return s.dial(t), <-handlers
}

// TestTryWake pushes more than the kernel has room for, from several goroutines, to a client that
// reads late.
func TestTryWake(t *testing.T) {
	const frames = 4000
	padding := strings.Repeat("x", 2000)
	onTransports(t, func(t *testing.T, transport string) {
		client, h := queueServer(t, transport, Config{WriteTimeout: testTimeout}, nil)
		var pushing sync.WaitGroup
		pushing.Go(func() {
			for i := range frames {
				h.push(fmt.Sprint(i, " ", padding))
			}
		})
		pushing.Go(func() {
			for range frames {
				h.conn.TryWake()
			}
		})
		pushing.Wait()
		for i := 0; i < frames; {
			first, payload, err := client.readFrame()
			if err != nil {
				t.Fatalf("after %d frames: %v", i, err)
			}
			if first == fin|opPing {
				continue
			}
			if want := fmt.Sprint(i, " ", padding); payload != want {
				t.Fatalf("got %q, want frame %d", cut(payload), i)
			}
			i++
		}
		client.send(closeFrame(NormalClosure, ""))
		if h.conn.socket == nil && h.early.Load() > 0 {
			t.Error("a connection that cannot be polled was written to early")
		}
		t.Logf("%d frames written early, %d later", h.early.Load(), h.late.Load())
	})
}

// TestWriteEarlyTimesOut pushes to a client that never reads.
func TestWriteEarlyTimesOut(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		_, h := queueServer(t, transport, Config{WriteTimeout: 100 * time.Millisecond}, nil)
		frame := strings.Repeat("x", 64<<10)
		for range 1000 { // 64 MB
			h.push(frame)
		}
		if err := h.end(t); err != ErrNotReading {
			t.Errorf("got %v, want ErrNotReading", err)
		}
		h.conn.TryWake() // does nothing
	})
}

// TestWakeAtOfWokenEarly checks that the goroutine that waits learns of an earlier time.
func TestWakeAtOfWokenEarly(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		client, h := queueServer(t, transport, Config{}, func(h *queueHandler) { h.again = 20 * time.Millisecond })
		h.push("frame")
		client.wantFrame(fin|opText, "frame")
		if h.late.Load() != 1 {
			t.Error("the frame was not written by Woken")
		}
	})
}
