package inbox_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"inbox/inbox"
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

// requestOn returns a request of the connection.
func requestOn(c net.Conn) *http.Request {
	return (&http.Request{}).WithContext(inbox.ConnContext(context.Background(), c))
}

// waitAlive waits until the kernel has seen what the client did.
func waitAlive(t *testing.T, r *http.Request, want bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); inbox.Alive(r) != want; {
		if time.Now().After(deadline) {
			t.Fatalf("Alive is still %v, want %v", !want, want)
		}
	}
}

func TestAlive(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(client *net.TCPConn)
		want bool
	}{
		{"idle", func(*net.TCPConn) {}, true},
		{"pipelined bytes", func(c *net.TCPConn) { c.Write([]byte("GET / HTTP/1.1\r\n")) }, true},
		{"closed", func(c *net.TCPConn) { c.Close() }, false},
		{"reset", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, false},
		{"half closed, which looks the same", func(c *net.TCPConn) { c.CloseWrite() }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, client := socketPair(t)
			r := requestOn(server)
			if !inbox.Alive(r) {
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
		inbox.Alive(r)
	}
	var got [5]byte
	if _, err := io.ReadFull(server, got[:]); err != nil || string(got[:]) != "hello" {
		t.Errorf("after Alive the connection has %q, %v; want hello", got, err)
	}
}

// TestAliveDuringPendingRead checks that Alive does not queue behind the Read
// that net/http keeps pending while a handler runs.
func TestAliveDuringPendingRead(t *testing.T) {
	server, client := socketPair(t)
	r := requestOn(server)
	var reading, asking sync.WaitGroup
	reading.Go(func() { server.Read(make([]byte, 1)) })
	asking.Go(func() {
		for range 2000 { // the Read has begun before the last of them
			inbox.Alive(r)
			runtime.Gosched()
		}
	})
	rescue := time.AfterFunc(10*time.Second, func() { client.Close() }) // ends a Read that blocks Alive
	asking.Wait()
	if !rescue.Stop() {
		t.Error("Alive waited for the Read")
	}
	client.Close()
	waitAlive(t, r, false)
	reading.Wait()
}

func TestAliveAfterLocalClose(t *testing.T) {
	server, _ := socketPair(t)
	r := requestOn(server)
	server.Close()
	if inbox.Alive(r) {
		t.Error("a connection that the server closed is alive")
	}
}

func TestAliveWithoutASocket(t *testing.T) {
	if !inbox.Alive(&http.Request{}) {
		t.Error("a request without a connection is not alive")
	}
	a, b := net.Pipe()
	defer b.Close()
	defer a.Close()
	if !inbox.Alive(requestOn(a)) {
		t.Error("a connection without a socket is not alive")
	}
}

// tlsPair puts TLS over a pair. The server does not read after the handshake.
func tlsPair(t *testing.T, version uint16) (server *tls.Conn, client *tls.Conn, tcp *net.TCPConn) {
	t.Helper()
	s, c := socketPair(t)
	server = tls.Server(s, testTLSConfig())
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

// testTLSConfig has the certificate of package httptest.
var testTLSConfig = sync.OnceValue(func() *tls.Config {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	s.Close()
	return s.TLS
})

func TestAliveOverTLS(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			server, client, _ := tlsPair(t, version)
			r := requestOn(server)
			waitAlive(t, r, true)
			client.Write([]byte("pipelined"))
			waitAlive(t, r, true)
			client.Close() // leaves a close_notify alert unread before the FIN
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
