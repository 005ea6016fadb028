package netconn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"
)

const testTimeout = 30 * time.Second

// fetchPair returns a FetchConn and its peer.
func fetchPair(t *testing.T) (*FetchConn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := FetchListener(l).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); peer.Close() })
	peer.SetDeadline(time.Now().Add(testTimeout))
	c.SetReadDeadline(time.Now().Add(testTimeout))
	return c.(*FetchConn), peer
}

// readAvailable reads until there is nothing, and fetches until it has n bytes.
func readAvailable(t *testing.T, c *FetchConn, r io.Reader, n int) (got []byte) {
	t.Helper()
	b := make([]byte, 100)
	for len(got) < n {
		k, err := r.Read(b)
		got = append(got, b[:k]...)
		if err == ErrWouldBlock {
			err = c.Fetch()
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(got), err)
		}
	}
	return got
}

func TestFetchConnReadsAsUsualAtFirst(t *testing.T) {
	c, peer := fetchPair(t)
	peer.Write([]byte("hello"))
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Errorf("got %q, %v", b, err)
	}
	c.SetReadDeadline(time.Unix(1, 0))
	if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a timeout", err)
	}
}

func TestFetch(t *testing.T) {
	c, peer := fetchPair(t)
	c.SetNonblocking()
	sent := bytes.Repeat([]byte("0123456789"), 3*fetchBytes/10)
	var writing sync.WaitGroup
	writing.Go(func() { peer.Write(sent) })
	if err := c.Fetch(); err != nil {
		t.Fatal(err)
	}
	if err := c.Fetch(); err != nil { // does not wait, nor lose what it has
		t.Fatal(err)
	}
	if got := readAvailable(t, c, c, len(sent)); !bytes.Equal(got, sent) {
		t.Errorf("got %d bytes that differ from the %d sent", len(got), len(sent))
	}
	writing.Wait()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != ErrWouldBlock {
		t.Errorf("got %d, %v, want ErrWouldBlock", n, err)
	}
	if c.buffer != nil {
		t.Error("a buffer is held without bytes")
	}
}

func TestFetchEnds(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(c *FetchConn, peer net.Conn)
		want error // of Fetch, or else of Read
	}{
		{"the peer closes", func(_ *FetchConn, peer net.Conn) { peer.Close() }, io.EOF},
		{"closed", func(c *FetchConn, _ net.Conn) { c.Close() }, net.ErrClosed},
		{"deadline", func(c *FetchConn, _ net.Conn) { c.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
	} {
		for _, during := range []bool{false, true} {
			c, peer := fetchPair(t)
			c.SetNonblocking()
			if during {
				time.AfterFunc(20*time.Millisecond, func() { row.end(c, peer) })
			} else {
				row.end(c, peer)
			}
			err := c.Fetch()
			if err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			if !errors.Is(err, row.want) {
				t.Errorf("%s, during the wait %v: got %v, want %v", row.name, during, err, row.want)
			}
		}
	}
}

func TestFetchAfterDeadline(t *testing.T) {
	c, peer := fetchPair(t)
	c.SetNonblocking()
	c.SetReadDeadline(time.Unix(1, 0))
	if err := c.Fetch(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want a timeout", err)
	}
	c.SetReadDeadline(time.Now().Add(testTimeout))
	peer.Write([]byte("x"))
	if got := readAvailable(t, c, c, 1); string(got) != "x" {
		t.Errorf("got %q", got)
	}
}

// TestFetchWithoutSocket checks a connection that cannot be polled.
func TestFetchWithoutSocket(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	c := &FetchConn{Conn: near}
	c.SetNonblocking()
	go func() {
		far.Write([]byte("hello"))
		far.Close()
	}()
	if got := readAvailable(t, c, c, 5); string(got) != "hello" {
		t.Errorf("got %q", got)
	}
	if err := c.Fetch(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v, want io.EOF", err)
	}
	near, far = net.Pipe()
	defer near.Close()
	defer far.Close()
	waiting := &FetchConn{Conn: near}
	waiting.SetNonblocking()
	near.SetReadDeadline(time.Unix(1, 0))
	if err := waiting.Fetch(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a timeout", err)
	}
}

// TestFetchUnderTLS checks that TLS keeps the part of a record that has arrived.
func TestFetchUnderTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	server.Close()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c, peer := fetchPair(t)
		pieces := &pieceConn{Conn: peer}
		client := tls.Client(pieces, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
		over := tls.Server(c, server.TLS)
		var handshake sync.WaitGroup
		handshake.Go(func() { client.Handshake() })
		if err := over.Handshake(); err != nil {
			t.Fatal(err)
		}
		handshake.Wait()
		c.SetNonblocking()
		pieces.size = 7
		sent := bytes.Repeat([]byte("0123456789"), 200)
		go client.Write(sent)
		if got := readAvailable(t, c, over, len(sent)); !bytes.Equal(got, sent) {
			t.Errorf("%s: got %d bytes that differ from the %d sent", tls.VersionName(version), len(got), len(sent))
		}
	}
}

// pieceConn writes in pieces, each in a packet of its own.
type pieceConn struct {
	net.Conn
	size int
}

func (c *pieceConn) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		k := len(p)
		if c.size > 0 {
			k = min(k, c.size)
		}
		_, err = c.Conn.Write(p[:k])
		p, n = p[k:], n+k
	}
	return n, err
}

func TestWouldBlockIsTemporary(t *testing.T) {
	var e net.Error
	if !errors.As(ErrWouldBlock, &e) || !e.Timeout() || errors.Is(ErrWouldBlock, os.ErrDeadlineExceeded) {
		t.Error("ErrWouldBlock is no temporary timeout of its own")
	}
}

type hijackedConn struct {
	wrapper
	told *int
}

func (c hijackedConn) Hijacked() { *c.told++ }

func TestHijackedTellsAllLayers(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	told := 0
	inner := hijackedConn{wrapper{near}, &told}
	Hijacked(wrapper{hijackedConn{wrapper{wrapper{inner}}, &told}})
	if told != 2 {
		t.Errorf("told %d layers, want 2", told)
	}
}
