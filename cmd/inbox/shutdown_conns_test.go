package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"inbox/cmd/inbox/internal/logging"
)

// TestLateHTTP2DoesNotDelayShutdown checks that a connection that becomes HTTP/2 after
// GOAWAY was sent, and stays idle, does not delay the shutdown. net/http treats it as
// active.
func TestLateHTTP2DoesNotDelayShutdown(t *testing.T) {
	t.Parallel()
	timeouts := defaultTimeouts()
	timeouts.drain = 2 * time.Second // for busy machines
	p := startWithTimeouts(t, timeouts)
	slow, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	time.Sleep(200 * time.Millisecond) // until it is accepted
	began := time.Now()
	p.cancel()
	time.Sleep(timeouts.drain * 3 / 4)
	c := tls.Client(slow, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	http2.NewFramer(c, c).WriteSettings()
	if code := p.stop(); code != exitDone {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(began); took > 4*timeouts.drain {
		t.Errorf("shutdown took %v, want about twice the drain time:\n%s", took, p.log)
	}
}

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

// newTestServer builds a server over plain HTTP that is not serving yet.
func newTestServer(t *testing.T, p process, wrap func(net.Listener) net.Listener) *server {
	t.Helper()
	c, err := parse([]string{"-bind", "127.0.0.1:0", "-https=false", "-state", t.TempDir()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := newOutput()
	p.stderr = out
	ls, err := listenAll(c, nil, logging.New(out, c.level, c.logFormat == "json"))
	if err != nil {
		t.Fatal(err)
	}
	ls.main = wrap(ls.main)
	srv, err := newServer(c, p, ls, logging.New(out, c.level, c.logFormat == "json"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ls.close(); srv.close() })
	return srv
}

// TestStuckConnectionsDoNotDelayShutdown checks that a connection that cannot be closed
// does not prevent the server from saving and exiting.
func TestStuckConnectionsDoNotDelayShutdown(t *testing.T) {
	t.Parallel()
	freed := make(chan struct{})
	defer close(freed)
	timeouts := shortTimeouts()
	timeouts.header, timeouts.idle, timeouts.shutdown = time.Minute, time.Minute, time.Second
	srv := newTestServer(t, process{timeouts: timeouts}, func(l net.Listener) net.Listener { return stuckListener{l, freed} })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.run(ctx) }()
	for _, asked := range []string{"", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"} {
		conn, err := net.Dial("tcp", srv.listeners.main.Addr().String())
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
	if _, err := os.Stat(srv.snapshot.Path()); err != nil {
		t.Errorf("nothing was saved: %v", err)
	}
}
