package websocket

import (
	"crypto/tls"
	"testing"
	"time"

	"inbox/internal/netconn"
)

// waitAwaiting waits until n connections wait without a goroutine.
func waitAwaiting(t *testing.T, n int) {
	t.Helper()
	for start := time.Now(); netconn.Awaiting() != n; time.Sleep(time.Millisecond) {
		if time.Since(start) > testTimeout {
			t.Fatalf("%d connections wait without a goroutine, want %d", netconn.Awaiting(), n)
		}
	}
}

// TestSilentClientRests connects a client that sends nothing.
func TestSilentClientRests(t *testing.T) {
	for _, transport := range []string{"plain", "TLS"} {
		before := netconn.Awaiting()
		s, handlers := recordedServer(t, transport, Config{PingInterval: time.Hour, restAfter: time.Millisecond})
		c := s.dial(t)
		h := <-handlers
		waitAwaiting(t, before+1)
		c.send(text("x"))
		h.next(t)
		waitAwaiting(t, before+1)
		c.send(closeFrame(NormalClosure, ""))
		h.end(t)
		waitAwaiting(t, before)
	}
}

// TestRestWithoutStaleDeadline takes back a WakeAt before the connection rests.
func TestRestWithoutStaleDeadline(t *testing.T) {
	before := netconn.Awaiting()
	s, handlers := recordedServer(t, "TLS", Config{PingInterval: 2 * time.Hour}, func(h *recorder) {
		h.allow = func(Kind) time.Duration { // is called before Message
			if h.conn.wakeAt == 0 {
				h.conn.WakeAt(time.Now().Add(time.Hour))
			} else {
				h.conn.WakeAt(time.Time{})
				h.conn.restSoon = true
			}
			return 0
		}
	})
	c := s.dial(t)
	h := <-handlers
	for range 2 {
		c.send(text("x"))
		h.next(t)
		waitAwaiting(t, before+1)
	}
	h.conn.mu.Lock()
	defer h.conn.mu.Unlock()
	if got, want := h.conn.deadline, h.conn.pingAt; got != want {
		t.Errorf("the connection rests until %v, want %v", got, want)
	}
}

// TestRestWithinTLSRecord sends the begin of a record to a connection that rests.
func TestRestWithinTLSRecord(t *testing.T) {
	before := netconn.Awaiting()
	s, handlers := recordedServer(t, "TLS", Config{PingInterval: time.Hour, restAfter: time.Hour}, func(h *recorder) {
		h.allow = func(Kind) time.Duration {
			h.conn.restSoon = true
			return 0
		}
	})
	c := s.dial(t)
	h := <-handlers
	c.send(text("x"))
	h.next(t)
	waitAwaiting(t, before+1)
	c.conn.(*tls.Conn).NetConn().Write([]byte{23, 3, 3})
	waitAwaiting(t, before)
	restAt := func() time.Duration {
		h.conn.handling.Lock()
		defer h.conn.handling.Unlock()
		return h.conn.restAt
	}
	for start := time.Now(); restAt() == 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > testTimeout {
			t.Fatal("the connection does not rest again")
		}
	}
}
