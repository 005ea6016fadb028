package conn

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"inbox/tlsmgr"
)

// socketPair returns both ends of a TCP connection.
func socketPair(t *testing.T) (server, client *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); c.Close() })
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// requestOn returns a request received on c.
func requestOn(c net.Conn) *http.Request {
	ctx := WithInfo(context.Background(), c)
	return (&http.Request{}).WithContext(ctx)
}

// waitAlive waits until the kernel has processed what the peer did.
func waitAlive(t *testing.T, r *http.Request, want bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); Alive(r) != want; {
		if time.Now().After(deadline) {
			t.Fatalf("alive is still %v, want %v", !want, want)
		}
	}
}

func TestAlive(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(client *net.TCPConn)
		want bool
	}{
		{"unchanged", func(*net.TCPConn) {}, true},
		{"pipelined bytes", func(c *net.TCPConn) { c.Write([]byte("GET / HTTP/1.1\r\n")) }, true},
		{"closed", func(c *net.TCPConn) { c.Close() }, false},
		{"reset", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, false},
		{"half closed, which is indistinguishable", func(c *net.TCPConn) { c.CloseWrite() }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, client := socketPair(t)
			r := requestOn(server)
			if !Alive(r) {
				t.Fatal("a new connection is not alive")
			}
			tt.do(client)
			waitAlive(t, r, tt.want)
		})
	}
}

func TestAliveConsumesNothing(t *testing.T) {
	server, client := socketPair(t)
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	r := requestOn(server)
	for range 10 {
		Alive(r)
	}
	var got [5]byte
	if _, err := io.ReadFull(server, got[:]); err != nil || string(got[:]) != "hello" {
		t.Errorf("read after alive: got %q, %v; want hello", got, err)
	}
}

// TestAliveDuringPendingRead checks that alive does not wait for the background Read of
// net/http, which is pending while a handler runs.
func TestAliveDuringPendingRead(t *testing.T) {
	server, client := socketPair(t)
	r := requestOn(server)
	var reading, asking sync.WaitGroup
	reading.Go(func() { server.Read(make([]byte, 1)) })
	asking.Go(func() {
		for range 2000 { // long enough for the Read to start
			Alive(r)
			runtime.Gosched()
		}
	})
	rescue := time.AfterFunc(10*time.Second, func() { client.Close() }) // unblocks the Read
	asking.Wait()
	if !rescue.Stop() {
		t.Error("alive blocked until the Read returned")
	}
	client.Close()
	waitAlive(t, r, false)
	reading.Wait()
}

func TestAliveAfterLocalClose(t *testing.T) {
	server, _ := socketPair(t)
	r := requestOn(server)
	server.Close()
	if Alive(r) {
		t.Error("a locally closed connection is alive")
	}
}

func TestAliveWithoutASocket(t *testing.T) {
	if !Alive(&http.Request{}) {
		t.Error("a request without a connection is not alive")
	}
	a, b := net.Pipe()
	defer b.Close()
	defer a.Close()
	if !Alive(requestOn(a)) {
		t.Error("a connection without a socket is not alive")
	}
}

// tlsPair returns a TLS connection over a socketPair. Nothing reads from the server end
// after the handshake.
func tlsPair(t *testing.T, version uint16) (server *tls.Conn, client *tls.Conn, tcp *net.TCPConn) {
	t.Helper()
	source, err := tlsmgr.New(tlsmgr.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, c := socketPair(t)
	server = tls.Server(s, source.TLSConfig())
	client = tls.Client(c, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
	failed := make(chan error, 1)
	go func() { failed <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	return server, client, c
}

func TestAliveOverTLS(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			server, client, _ := tlsPair(t, version)
			r := requestOn(server)
			waitAlive(t, r, true)
			client.Write([]byte("pipelined"))
			waitAlive(t, r, true)
			client.Close() // leaves close_notify unread before the FIN
			waitAlive(t, r, false)
		})
	}
}

func TestAliveOverTLSReset(t *testing.T) {
	server, _, tcp := tlsPair(t, tls.VersionTLS13)
	r := requestOn(server)
	tcp.SetLinger(0)
	tcp.Close()
	waitAlive(t, r, false)
}
