package main

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"inbox/cmd/inbox/internal/server"
)

// TestLateHTTP2DoesNotDelayShutdown checks that a connection that becomes HTTP/2 after
// GOAWAY was sent, and stays idle, does not delay the shutdown. net/http treats it as
// active.
func TestLateHTTP2DoesNotDelayShutdown(t *testing.T) {
	t.Parallel()
	timeouts := server.DefaultTimeouts()
	timeouts.Drain = 2 * time.Second // for busy machines
	p := startWithTimeouts(t, timeouts)
	slow, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	time.Sleep(200 * time.Millisecond) // until it is accepted
	began := time.Now()
	p.cancel()
	time.Sleep(timeouts.Drain * 3 / 4)
	c := tls.Client(slow, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	http2.NewFramer(c, c).WriteSettings()
	if code := p.stop(); code != exitDone {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(began); took > 4*timeouts.Drain {
		t.Errorf("shutdown took %v, want about twice the drain time:\n%s", took, p.log)
	}
}
