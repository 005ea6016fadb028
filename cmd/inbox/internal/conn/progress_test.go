package conn

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// readSlowly reads n bytes at a time until the connection ends.
func readSlowly(c net.Conn, n int, interval time.Duration) {
	for buf := make([]byte, n); ; time.Sleep(interval) {
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
	}
}

// TestWriteLimit checks how long a large response continues, with clients of different speed.
func TestWriteLimit(t *testing.T) {
	const size = 2 << 20
	for _, row := range []struct {
		name     string
		bytes    int // that the client reads at once
		interval time.Duration
		chunk    int // that the server writes at once
		ends     bool
	}{
		{"never reads", 1, time.Hour, size, true},
		{"never reads, small writes", 1, time.Hour, 4 << 10, true},
		{"a byte now and then", 1, time.Second, size, true},
		{"half of the minimum", 1 << 10, time.Second, size, true},
		{"half of the minimum, records of TLS", 14 << 10, 14 * time.Second, 16 << 10, true},
		{"twice the minimum", 4 << 10, time.Second, size, false},
		{"twice the minimum, records of TLS", 60 << 10, 14 * time.Second, 16 << 10, false},
		{"in bursts", 256 << 10, 25 * time.Second, 16 << 10, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				limit := &WriteLimit{Timeout: 30 * time.Second}
				c := newLazyConn(near, limit)
				go readSlowly(far, row.bytes, row.interval)
				defer time.Sleep(row.interval) // for readSlowly
				defer far.Close()
				defer c.Close()
				began, err := time.Now(), error(nil)
				for n := 0; n < size && err == nil; n += row.chunk {
					_, err = c.Write(make([]byte, row.chunk))
				}
				took := time.Since(began)
				if ended := errors.Is(err, os.ErrDeadlineExceeded); ended != row.ends || (limit.Stalled() == 1) != row.ends {
					t.Errorf("got %v after %v and %d counted, want an end: %v", err, took, limit.Stalled(), row.ends)
				}
				if row.ends && took > 2*limit.Timeout {
					t.Errorf("ended after %v, want about %v", took, limit.Timeout)
				}
			})
		})
	}
}

// TestWriteLimitAfterIdle checks that a connection that was idle is not limited by what
// happened before, and that a deadline that is set has precedence.
func TestWriteLimitAfterIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		c := newLazyConn(near, &WriteLimit{Timeout: 30 * time.Second})
		for range 3 {
			began := time.Now()
			if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began).Round(10*time.Second) != 30*time.Second {
				t.Errorf("got %v after %v, want a timeout after about 30 s", err, time.Since(began))
			}
			time.Sleep(3 * time.Hour)
			time.AfterFunc(29*time.Second, func() { far.Read(make([]byte, 1)) })
			if _, err := c.Write([]byte("x")); err != nil {
				t.Errorf("write with a reader: %v", err)
			}
			time.Sleep(3 * time.Hour)
			c.SetWriteDeadline(time.Now().Add(time.Second))
			c.SetWriteDeadline(time.Time{})
		}
		for deadline, moved := range map[time.Duration]time.Duration{time.Second: 0, 10 * time.Second: 0, time.Hour: 0, time.Minute: 5 * time.Second} {
			began := time.Now()
			time.AfterFunc(moved, func() { c.SetWriteDeadline(began.Add(deadline)) })
			synctest.Wait()
			if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began).Round(time.Millisecond) != deadline {
				t.Errorf("a deadline of %v, set after %v: got %v after %v", deadline, moved, err, time.Since(began))
			}
			c.SetWriteDeadline(time.Time{})
		}
	})
}

// TestAcknowledgedBytes checks that what the client's kernel has received is known, although
// the client has read nothing.
func TestAcknowledgedBytes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, known := acknowledgedBytes(c); !known {
		t.Skip("this system does not report them")
	}
	c.Write(make([]byte, 1000))
	for deadline := time.Now().Add(waitDeadline); ; time.Sleep(time.Millisecond) {
		n, _ := acknowledgedBytes(newLazyConn(c, &WriteLimit{}))
		if n == 1000 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %d bytes, want 1000", n)
		}
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if _, known := acknowledgedBytes(near); known {
		t.Error("the bytes of a pipe are known")
	}
}
