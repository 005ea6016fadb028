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

// slowConns is how many connections are slow at once.
const slowConns = 500

// slowly opens connections, says something on each, goes on a byte at a time,
// and holds that the server has ended all within d.
func (s *scene) slowly(ctx context.Context, d time.Duration, begin func(c net.Conn, i int) error) {
	var mu sync.Mutex
	var times []time.Duration
	var open atomic.Int64
	each(slowConns, slowConns, func(i int) {
		c, err := s.dial(ctx, stranger(i/25), "http/1.1")
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		defer c.Close()
		if err := begin(c, i); err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		began := time.Now()
		stop := drip(c)
		defer stop()
		if !ended(c, d+10*time.Second) {
			open.Add(1)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		times = append(times, time.Since(began))
	})
	s.note("%d of %d ended, half after %.1f s, the last after %.1f s", len(times), slowConns,
		percentile(times, 0.5).Seconds(), percentile(times, 1).Seconds())
	if last := percentile(times, 1); open.Load() > 0 || last > d+3*time.Second {
		s.fail("%d are open, the last ended after %v; want all within %v", open.Load(), last, d)
	}
}

// drip writes a byte every half second until it is stopped.
func drip(c net.Conn) (stop func()) {
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

func slowHeaders(ctx context.Context, s *scene) {
	s.slowly(ctx, 10*time.Second, func(c net.Conn, i int) error {
		_, err := io.WriteString(c, "GET /inbox HTTP/1.1\r\nHost: inbox\r\nX-Slow: ")
		return err
	})
}

func slowBodies(ctx context.Context, s *scene) {
	s.slowly(ctx, 30*time.Second, func(c net.Conn, i int) error {
		name := fmt.Sprint("slow", i)
		if _, _, err := newLine(c).ask(head("GET", "/inbox?wait=0", name) + "\r\n"); err != nil {
			return err
		}
		c.SetDeadline(time.Time{})
		_, err := io.WriteString(c, head("POST", "/inbox?to="+name, name)+"Content-Length: 1000\r\n\r\n")
		return err
	})
}

// halfClosed says that nothing more will come, in the middle of things.
func halfClosed(ctx context.Context, s *scene) {
	sends := []string{
		"",
		"GET /inbox HTTP/1.1\r\nHost: inbox\r\n",
		head("GET", "/inbox", "half") + "\r\n",
		head("POST", "/inbox?to=half", "half") + "Content-Length: 1000\r\n\r\nabc",
		head("GET", "/inbox?wait=0", "half") + "\r\n",
	}
	var closed atomic.Int64
	each(slowConns, 50, func(i int) {
		c, err := s.dial(ctx, stranger(i/25), "http/1.1")
		if err != nil {
			s.fail("connection %d: %v", i, err)
			return
		}
		defer c.Close()
		io.WriteString(c, sends[i%len(sends)])
		c.(interface{ CloseWrite() error }).CloseWrite()
		if ended(c, 15*time.Second) {
			closed.Add(1)
		} else {
			s.fail("after %.40q and a half close the server keeps the connection", sends[i%len(sends)])
		}
	})
	s.note("%d of %d closed by the server", closed.Load(), slowConns)
}

// largeMessage is more than the kernel takes of an answer that nobody reads.
const largeMessage = 6 << 20

// slowReaders ask for large messages and never read them.
func slowReaders(ctx context.Context, s *scene) {
	const conns, patience = 8, 30 * time.Second
	var cut atomic.Int64
	each(conns, conns, func(i int) {
		c := s.hang(ctx, i, fmt.Sprint("slow", i))
		if c == nil {
			s.fail("connection %d: the message was refused", i)
			return
		}
		defer c.Close()
		pause(ctx, patience+2*time.Second)
		if n, ended := drain(c); ended && n < largeMessage {
			cut.Add(1)
		} else {
			s.fail("connection %d: %d bytes came after %v, want it cut", i, n, patience)
		}
	})
	s.note("%d of %d cut within %v", cut.Load(), conns, patience+2*time.Second)
}

// hang claims a name, leaves it a large message and asks for that, without
// reading.
func (s *scene) hang(ctx context.Context, i int, name string) net.Conn {
	p := s.peer(name, stranger(i))
	defer p.HTTP.CloseIdleConnections()
	if err := ask(ctx, p, "GET", "?wait=0", http.StatusNoContent); err != nil {
		s.fail("connection %d: %v", i, err)
		return nil
	}
	if got, err := status(ctx, p, "POST", "?to="+name, bytes.NewReader(make([]byte, largeMessage))); err != nil || got != http.StatusOK {
		return nil // refused: so much for this one
	}
	c, err := s.narrow(ctx, stranger(i), "http/1.1")
	if err == nil {
		_, err = io.WriteString(c, head("GET", "/inbox?after=", name)+"\r\n")
	}
	if err != nil {
		s.fail("connection %d: %v", i, err)
		return nil
	}
	return c
}

// drain reads what there is.
func drain(c net.Conn) (n int64, atEnd bool) {
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := io.Copy(io.Discard, c)
	return n, !isTimeout(err)
}

// deletedWhileRead gives names up while their mail is being written to
// somebody who does not read it: it is in no mailbox any more.
func deletedWhileRead(ctx context.Context, s *scene) {
	const names = 120
	var hung atomic.Int64
	var conns [names]net.Conn
	each(names, 4, func(i int) {
		name := fmt.Sprint("deleted", i)
		if conns[i] = s.hang(ctx, i, name); conns[i] == nil {
			return
		}
		hung.Add(1)
		pause(ctx, 100*time.Millisecond) // for the answer to begin
		p := s.peer(name, stranger(i/10))
		defer p.HTTP.CloseIdleConnections()
		if err := ask(ctx, p, "DELETE", "", http.StatusNoContent); err != nil {
			s.fail("give up name %d: %v", i, err)
		}
	})
	pause(ctx, time.Second)
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
	s.note("%d messages of 6 MiB taken, not read, their mailboxes deleted", hung.Load())
}
