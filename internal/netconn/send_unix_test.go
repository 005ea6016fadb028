//go:build unix

package netconn

import (
	"bytes"
	"io"
	"os"
	"testing"
	"time"
)

// TestDefer writes more than the socket has room for, without waiting, and then the rest.
func TestDefer(t *testing.T) {
	c, peer := fetchPair(t)
	c.SetNonblocking()
	if !c.CanDefer() {
		t.Fatal("a socket cannot defer")
	}
	block := bytes.Repeat([]byte("0123456789"), 1000)
	var rest, sent []byte
	c.Defer(&rest)
	for len(rest) < 3*len(block) {
		n, err := c.Write(block)
		if n != len(block) || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
		sent = append(sent, block...)
	}
	c.Defer(nil)
	received := make(chan []byte)
	go func() {
		got, _ := io.ReadAll(peer)
		received <- got
	}()
	for _, p := range [][]byte{rest, block} {
		if n, err := c.Write(p); n != len(p) || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
	}
	c.Close()
	if got := <-received; !bytes.Equal(got, append(sent, block...)) {
		t.Errorf("got %d bytes that differ from the %d sent", len(got), len(sent)+len(block))
	}
	if _, err := c.Write(block); err == nil {
		t.Error("a closed connection was written to")
	}
}

// TestWriteWaitsForRoom checks the deadline of a small write.
func TestWriteWaitsForRoom(t *testing.T) {
	c, _ := fetchPair(t)
	c.SetNonblocking()
	c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	for {
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			if !os.IsTimeout(err) {
				t.Errorf("got %v, want a timeout", err)
			}
			return
		}
	}
}
