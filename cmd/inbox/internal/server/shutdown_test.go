package server

import (
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// stuckConn is a connection whose Close blocks, like that of a TLS connection with a
// blocked write.
type stuckConn struct {
	net.Conn
	freed chan struct{}
}

func (s stuckConn) Close() error {
	<-s.freed
	return s.Conn.Close()
}

type stuckListener struct {
	net.Listener
	freed chan struct{}
}

func (l stuckListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return stuckConn{c, l.freed}, err
}

// TestStuckConnectionsDoNotDelayShutdown checks that a connection that cannot be closed
// does not prevent the server from saving and exiting.
func TestStuckConnectionsDoNotDelayShutdown(t *testing.T) {
	t.Parallel()
	freed := make(chan struct{})
	defer close(freed)
	p := testProcess()
	p.Timeouts = shortTimeouts()
	p.Timeouts.Header, p.Timeouts.Idle, p.Timeouts.Shutdown = time.Minute, time.Minute, time.Second
	srv := build(t, p, resolve(t, "-https=false"), func(l net.Listener) net.Listener { return stuckListener{l, freed} })
	cancel, ended := runInBackground(t, srv)
	for _, asked := range []string{"", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"} {
		conn, err := net.Dial("tcp", srv.main.socket.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if io.WriteString(conn, asked); asked != "" {
			conn.Read(make([]byte, 1<<10))
		}
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("got %v, want none", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the server does not stop")
	}
	if _, err := os.Stat(srv.mailboxes.snapshot.Path()); err != nil {
		t.Errorf("nothing was saved: %v", err)
	}
}

// TestFailedServerSavesSnapshot checks that mailboxes are saved if the listener fails.
func TestFailedServerSavesSnapshot(t *testing.T) {
	srv := newTestServer(t)
	srv.main.socket.Close()
	if err := srv.run(t.Context(), nil); err == nil {
		t.Error("got no error from a closed listener")
	}
	if info, err := os.Stat(srv.mailboxes.snapshot.Path()); err != nil || info.Mode() != 0o600 {
		t.Errorf("got snapshot %v, %v, want one with mode 0600", info, err)
	}
}
