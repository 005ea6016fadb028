package attack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// slowConns is the number of concurrent slow connections.
const slowConns = 500

// runSlowConns opens connections, calls start on each and then writes single bytes. The
// server must close all of them within d.
func (s *scenario) runSlowConns(ctx context.Context, d time.Duration, start func(c net.Conn, i int) error) {
	var mu sync.Mutex
	var times []time.Duration
	var open atomic.Int64
	parallel(slowConns, slowConns, func(i int) {
		c, err := s.dial(ctx, attackerAddr(i/25), "http/1.1")
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		defer c.Close()
		if err := start(c, i); err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		began := time.Now()
		stop := writeSlowly(c)
		defer stop()
		if !closedWithin(c, d+10*time.Second) {
			open.Add(1)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		times = append(times, time.Since(began))
	})
	s.addFigure("%d of %d closed, half after %.1f s, the last after %.1f s", len(times), slowConns,
		percentile(times, 0.5).Seconds(), percentile(times, 1).Seconds())
	if last := percentile(times, 1); open.Load() > 0 || last > d+3*time.Second {
		s.fail("got %d open connections, the last one closed after %v; want all closed within %v", open.Load(), last, d)
	}
}

// writeSlowly writes a byte every half second until stop is called.
func writeSlowly(c net.Conn) (stop func()) {
	done := make(chan struct{})
	go func() {
		for tick := time.NewTicker(500 * time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				io.WriteString(c, "x")
			}
		}
	}()
	return func() { close(done) }
}

func slowHeaders(ctx context.Context, s *scenario) {
	s.runSlowConns(ctx, 10*time.Second, func(c net.Conn, i int) error {
		_, err := io.WriteString(c, "GET /inbox HTTP/1.1\r\nHost: inbox\r\nX-Slow: ")
		return err
	})
}

func slowBodies(ctx context.Context, s *scenario) {
	s.runSlowConns(ctx, 30*time.Second, func(c net.Conn, i int) error {
		name := fmt.Sprint("slow", i)
		if _, _, err := newHTTP1Conn(c).roundTrip(requestHead("GET", "/inbox?wait=0", name) + "\r\n"); err != nil {
			return err
		}
		c.SetDeadline(time.Time{})
		_, err := io.WriteString(c, requestHead("POST", "/inbox?to="+name, name)+"Content-Length: 1000\r\n\r\n")
		return err
	})
}

// halfClosed closes the sending side of connections at different points of a request.
func halfClosed(ctx context.Context, s *scenario) {
	sends := []string{
		"",
		"GET /inbox HTTP/1.1\r\nHost: inbox\r\n",
		requestHead("GET", "/inbox", "half") + "\r\n",
		requestHead("POST", "/inbox?to=half", "half") + "Content-Length: 1000\r\n\r\nabc",
		requestHead("GET", "/inbox?wait=0", "half") + "\r\n",
	}
	var closed atomic.Int64
	parallel(slowConns, 50, func(i int) {
		c, err := s.dial(ctx, attackerAddr(i/25), "http/1.1")
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		defer c.Close()
		io.WriteString(c, sends[i%len(sends)])
		c.(interface{ CloseWrite() error }).CloseWrite()
		if closedWithin(c, 15*time.Second) {
			closed.Add(1)
		} else {
			s.fail("after %.40q and a half-close: got an open connection, want it closed", sends[i%len(sends)])
		}
	})
	s.addFigure("%d of %d closed by the server", closed.Load(), slowConns)
}

// largeMessage is a message size in bytes that exceeds the kernel's socket buffers.
const largeMessage = 6 << 20

// slowReaders requests large messages and does not read them before the write timeout.
func slowReaders(ctx context.Context, s *scenario) {
	const conns, writeTimeout = 8, 30 * time.Second
	var cut atomic.Int64
	parallel(conns, conns, func(i int) {
		c := s.requestWithoutReading(ctx, i, fmt.Sprint("slow", i))
		if c == nil {
			s.fail("connection %d: cannot queue a large message", i)
			return
		}
		defer c.Close()
		sleep(ctx, writeTimeout+2*time.Second)
		if n, closed := readAll(c); closed && n < largeMessage {
			cut.Add(1)
		} else {
			s.fail("connection %d: got %d bytes after %v, want an incomplete response", i, n, writeTimeout)
		}
	})
	s.addFigure("%d of %d closed within %v", cut.Load(), conns, writeTimeout+2*time.Second)
}

// requestWithoutReading claims a name, sends it a large message and requests that message
// without reading the response. It returns nil if the server refuses the message.
func (s *scenario) requestWithoutReading(ctx context.Context, i int, name string) net.Conn {
	p := s.peer(name, attackerAddr(i))
	defer p.HTTP.CloseIdleConnections()
	if err := wantStatus(ctx, p, "GET", "?wait=0", http.StatusNoContent); err != nil {
		s.fail("connection %d: %v", i, err)
		return nil
	}
	if got, err := requestStatus(ctx, p, "POST", "?to="+name, bytes.NewReader(make([]byte, largeMessage))); err != nil || got != http.StatusOK {
		return nil // refused
	}
	c, err := s.dialSmallBuffer(ctx, attackerAddr(i), "http/1.1")
	if err == nil {
		_, err = io.WriteString(c, requestHead("GET", "/inbox?after=", name)+"\r\n")
	}
	if err != nil {
		s.fail("connection %d: %v", i, err)
		return nil
	}
	return c
}

// readAll reads what arrives within five seconds, and reports whether the connection ended.
func readAll(c net.Conn) (n int64, atEnd bool) {
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := io.Copy(io.Discard, c)
	return n, !isTimeout(err)
}

// deletedWhileRead deletes mailboxes while a message is being written to a receiver that
// does not read. The message still uses memory, but is not in a mailbox any more.
func deletedWhileRead(ctx context.Context, s *scenario) {
	const names = 120
	var unread atomic.Int64
	var conns [names]net.Conn
	parallel(names, 4, func(i int) {
		name := fmt.Sprint("deleted", i)
		if conns[i] = s.requestWithoutReading(ctx, i, name); conns[i] == nil {
			return
		}
		unread.Add(1)
		sleep(ctx, 100*time.Millisecond) // until the response begins
		p := s.peer(name, attackerAddr(i/10))
		defer p.HTTP.CloseIdleConnections()
		if err := wantStatus(ctx, p, "DELETE", "", http.StatusNoContent); err != nil {
			s.fail("delete mailbox %d: %v", i, err)
		}
	})
	sleep(ctx, time.Second)
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
	s.addFigure("%d messages of 6 MiB accepted, not read, their mailboxes deleted", unread.Load())
}
