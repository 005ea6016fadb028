package netconn

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// resumed is an Awaiter that counts.
type resumed chan struct{}

func (r resumed) Resume() { r <- struct{}{} }

func (r resumed) await(t *testing.T) {
	t.Helper()
	select {
	case <-r:
	case <-time.After(testTimeout):
		t.Fatal("the connection was not resumed")
	}
}

func TestAwait(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(c *FetchConn, peer net.Conn)
		want error // of Fetch, or else of Read
	}{
		{"bytes arrive", func(_ *FetchConn, peer net.Conn) { peer.Write([]byte("x")) }, nil},
		{"the peer closes", func(_ *FetchConn, peer net.Conn) { peer.Close() }, io.EOF},
		{"closed", func(c *FetchConn, _ net.Conn) { c.Close() }, net.ErrClosed},
		{"a deadline that has passed", func(c *FetchConn, _ net.Conn) { c.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		{"a deadline that comes", func(c *FetchConn, _ net.Conn) { c.SetDeadline(time.Now().Add(nearDeadline + checkInterval/2)) }, os.ErrDeadlineExceeded},
	} {
		for _, before := range []bool{false, true} { // the wait
			c, peer := fetchPair(t)
			c.SetReadDeadline(time.Time{})
			c.SetNonblocking()
			waits, r := Awaiting(), make(resumed, 2)
			if before {
				row.end(c, peer)
			}
			if c.Await(r) {
				if !before {
					if Awaiting() != waits+1 {
						t.Errorf("%s: %d connections wait, want %d", row.name, Awaiting(), waits+1)
					}
					row.end(c, peer)
				}
				r.await(t)
			} else if !before {
				t.Fatalf("%s: it cannot wait", row.name)
			}
			err := c.Fetch()
			if err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			if !errors.Is(err, row.want) {
				t.Errorf("%s, before the wait %v: got %v, want %v", row.name, before, err, row.want)
			}
			if Awaiting() != waits || len(r) != 0 {
				t.Errorf("%s: %d connections wait, want %d, resumed %d more times", row.name, Awaiting(), waits, len(r))
			}
		}
	}
}

func TestAwaitRefuses(t *testing.T) {
	refuses := func(name string, c *FetchConn) {
		t.Helper()
		if c.Await(make(resumed, 1)) {
			t.Errorf("%s: it waits", name)
		}
	}
	c, peer := fetchPair(t)
	refuses("before SetNonblocking", c)
	c.SetNonblocking()
	c.SetReadDeadline(time.Now().Add(nearDeadline / 2))
	refuses("a deadline is near", c)
	c.SetReadDeadline(time.Now().Add(testTimeout))
	peer.Write([]byte("xy"))
	if err := c.Fetch(); err != nil {
		t.Fatal(err)
	}
	refuses("bytes are unread", c)
	if n, err := c.Read(make([]byte, 5)); n != 2 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	peer.Close()
	if err := c.Fetch(); err != nil {
		t.Fatal(err)
	}
	refuses("the stream has ended", c)
	other, _ := fetchPair(t)
	other.SetNonblocking()
	other.Close()
	refuses("closed", other)
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	pipe := &FetchConn{Conn: near}
	pipe.SetNonblocking()
	refuses("no socket", pipe)
}

// reader receives in waits without a goroutine until the stream ends.
type reader struct {
	c    *FetchConn
	got  []byte
	done chan struct{}
}

func (r *reader) Resume() {
	b := make([]byte, 100)
	for {
		err := r.c.Fetch()
		for n := 0; err == nil; {
			n, err = r.c.Read(b)
			r.got = append(r.got, b[:n]...)
		}
		switch {
		case err == ErrWouldBlock && r.c.Await(r):
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.c.SetReadDeadline(time.Now().Add(testTimeout)) // fails on a closed connection, as Fetch will
		case err != ErrWouldBlock:
			close(r.done)
			return
		}
	}
}

// TestAwaitLosesNothing lets connections wait while bytes, deadlines and the end come at any time,
// and descriptors are used again.
func TestAwaitLosesNothing(t *testing.T) {
	const conns, rounds, writes = 8, 6, 100
	waits := Awaiting()
	var running sync.WaitGroup
	for range conns {
		running.Go(func() {
			for range rounds {
				c, peer := fetchPair(t)
				c.SetNonblocking()
				r := &reader{c: c, done: make(chan struct{})}
				go r.Resume()
				for range writes {
					peer.Write([]byte("x"))
					if rand.IntN(4) == 0 {
						c.SetReadDeadline(time.Unix(1, 0))
					}
					time.Sleep(rand.N(200 * time.Microsecond))
				}
				isClosed := rand.IntN(2) == 0
				if isClosed {
					c.Close()
				} else {
					peer.Close()
				}
				select {
				case <-r.done:
				case <-time.After(testTimeout):
					t.Error("a connection was not resumed at its end")
					return
				}
				if len(r.got) != writes && !isClosed {
					t.Errorf("got %d bytes, want %d", len(r.got), writes)
				}
			}
		})
	}
	running.Wait()
	if got := Awaiting(); got != waits {
		t.Errorf("%d connections wait after their end", got-waits)
	}
}

// TestAwaitForgetsConnections ends waits as they begin, and then the connections.
func TestAwaitForgetsConnections(t *testing.T) {
	p, waits := thePoller(), Awaiting()
	for range 20 {
		c, _ := fetchPair(t)
		c.SetReadDeadline(time.Time{})
		c.SetNonblocking()
		r, begun := make(resumed, 2), make(chan bool)
		p.mu.Lock()
		go func() { begun <- c.Await(r) }()
		for start := time.Now(); !c.awaiting.Load() && time.Since(start) < 5*time.Millisecond; {
			runtime.Gosched()
		}
		p.mu.Unlock()
		c.SetReadDeadline(time.Unix(1, 0))
		if <-begun {
			r.await(t)
		}
		c.Close()
		if got := Awaiting(); got != waits || len(r) != 0 {
			t.Fatalf("%d connections wait, want %d, and %d were resumed again", got, waits, len(r))
		}
	}
}

// TestAwaitWithoutWatches lets the system refuse to report sockets, as it does above
// fs.epoll.max_user_watches.
func TestAwaitWithoutWatches(t *testing.T) {
	p, waits := thePoller(), Awaiting()
	fd := p.fd
	defer func() { p.fd = fd }()
	c, peer := fetchPair(t)
	c.SetReadDeadline(time.Time{})
	c.SetNonblocking()
	r := make(resumed, 1)
	p.fd = -1
	if c.Await(r) || Awaiting() != waits {
		t.Errorf("it waits: %d connections do, want %d", Awaiting(), waits)
	}
	p.fd = fd
	if !c.Await(r) {
		t.Fatal("it cannot wait afterwards")
	}
	peer.Write([]byte("x"))
	r.await(t)
	if len(r) != 0 || Awaiting() != waits {
		t.Errorf("resumed %d more times, %d connections wait, want %d", len(r), Awaiting(), waits)
	}
}
