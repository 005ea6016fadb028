package conn

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// lazyPipe returns a lazyConn with a silent peer, and the number of deadlines set on the
// underlying connection.
func lazyPipe(t *testing.T) (c *lazyConn, set *int) {
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	counting := &countingConn{Conn: near}
	return newLazyConn(counting, &WriteLimit{}), &counting.set
}

// countingConn counts the deadlines that are set.
type countingConn struct {
	net.Conn
	set int
}

func (c *countingConn) SetReadDeadline(t time.Time) error { c.set++; return c.Conn.SetReadDeadline(t) }
func (c *countingConn) SetWriteDeadline(t time.Time) error {
	c.set++
	return c.Conn.SetWriteDeadline(t)
}

func TestAccepted(t *testing.T) {
	before := time.Now()
	c, _ := lazyPipe(t)
	if got := c.Accepted(); got.Before(before) || got.After(time.Now()) {
		t.Errorf("got %v, want a time since %v", got, before)
	}
}

func TestLazyDeadlineExpiresOnTime(t *testing.T) {
	buf := make([]byte, 1)
	for name, io := range map[string]struct {
		move func(*lazyConn, time.Time) error
		do   func(*lazyConn) (int, error)
	}{
		"read":  {(*lazyConn).SetReadDeadline, func(c *lazyConn) (int, error) { return c.Read(buf) }},
		"write": {(*lazyConn).SetWriteDeadline, func(c *lazyConn) (int, error) { return c.Write(buf) }},
		"both":  {(*lazyConn).SetDeadline, func(c *lazyConn) (int, error) { return c.Read(buf) }},
	} {
		for _, moves := range [][]time.Duration{
			{5 * time.Second}, {time.Minute, 5 * time.Second}, {5 * time.Second, time.Minute},
			{time.Second, time.Hour, 3 * time.Minute}, {-time.Hour, 20 * time.Second}, {time.Minute, -time.Hour},
		} {
			synctest.Test(t, func(t *testing.T) {
				c, _ := lazyPipe(t)
				began := time.Now()
				for _, d := range moves {
					io.move(c, began.Add(d))
				}
				_, err := io.do(c)
				want := max(0, moves[len(moves)-1])
				if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took != want {
					t.Errorf("%s, moved to %v: got %v after %v, want a timeout after %v", name, moves, err, took, want)
				}
			})
		}
	}
}

// TestLazyDeadlineUnblocksRead does what net/http does to abort its background read, and
// then reads without a deadline.
func TestLazyDeadlineUnblocksRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := lazyPipe(t)
		c.SetReadDeadline(time.Now().Add(time.Minute))
		read := make(chan error)
		background := func() {
			_, err := c.Read(make([]byte, 1))
			read <- err
		}
		go background()
		synctest.Wait()
		c.SetReadDeadline(time.Unix(1, 0))
		if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v, want a timeout", err)
		}
		c.SetReadDeadline(time.Time{})
		go background()
		time.Sleep(time.Hour)
		select {
		case err := <-read:
			t.Fatalf("got %v, want the read to block without a deadline", err)
		default:
		}
		c.Close()
		<-read
	})
}

// TestLazyDeadlineIsRarelySet moves the deadlines five times for each of a thousand
// requests per second. Only a deadline that expires earlier is set on the connection. A
// read that is aborted before it starts does not reach the connection.
func TestLazyDeadlineIsRarelySet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, set := lazyPipe(t)
		for range 1000 {
			now := time.Now()
			c.SetReadDeadline(now.Add(2 * time.Minute))
			c.SetReadDeadline(time.Unix(1, 0))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("got %v, want a timeout", err)
			}
			c.SetReadDeadline(now.Add(10 * time.Second))
			c.SetReadDeadline(time.Time{})
			c.SetWriteDeadline(now.Add(85 * time.Second))
			time.Sleep(time.Millisecond)
		}
		if *set > 3 {
			t.Errorf("got %d deadlines set for 5000 moves, want at most 3", *set)
		}
	})
}
