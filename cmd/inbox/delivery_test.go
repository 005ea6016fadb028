package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"testing"
)

// rounds is the number of disconnects of each kind. The original program lost one message
// in eight.
const rounds = 150

// hangUps are the ways in which a receiver's connection ends.
var hangUps = []struct {
	name, scheme, protocol string
	end                    func(net.Conn)
}{
	{"closed", "-https=false", "http/1.1", closeConn},
	{"reset", "-https=false", "http/1.1", resetConn},
	{"closed over TLS", "-https=true", "http/1.1", closeConn},
	{"reset over TLS", "-https=true", "http/1.1", resetConn},
	{"closed over HTTP/2", "-https=true", "h2", closeConn},
	{"reset over HTTP/2", "-https=true", "h2", resetConn},
}

func closeConn(c net.Conn) { c.Close() }

// resetConn resets the connection without close_notify or FIN.
func resetConn(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// receive sends a GET as alice on a new connection. It returns the connection and a channel
// that is closed when the response begins or the connection ends.
func (p *program) receive(protocol, target string) (c net.Conn, answered <-chan struct{}) {
	p.t.Helper()
	if protocol == "h2" {
		return p.receiveHTTP2(target)
	}
	c = p.dial()
	io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: x\r\n"+basicAuthHeader("alice")+"\r\n")
	began := make(chan struct{})
	go func() {
		defer close(began)
		c.Read(make([]byte, 1))
	}()
	return c, began
}

func (p *program) receiveHTTP2(target string) (net.Conn, <-chan struct{}) {
	p.t.Helper()
	c, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		p.t.Fatal(err)
	}
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return c, nil },
	}
	r, err := http.NewRequest("GET", p.url+target, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.SetBasicAuth("alice", "password of alice")
	sent, began := make(chan struct{}), make(chan struct{})
	trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) }}
	r = r.WithContext(httptrace.WithClientTrace(p.t.Context(), trace))
	go func() {
		defer close(began)
		if resp, err := transport.RoundTrip(r); err == nil && resp.ProtoMajor != 2 {
			p.t.Errorf("got %s, want HTTP/2", resp.Proto)
		}
	}()
	<-sent
	return c, began
}

// TestHangUpBeforeAMessageLosesNothing disconnects a waiting poll right before a message
// arrives. The next poll must receive the message.
func TestHangUpBeforeAMessageLosesNothing(t *testing.T) {
	for _, h := range hangUps {
		t.Run(h.name, func(t *testing.T) {
			p := start(t, h.scheme)
			p.claim("alice")
			for i := range rounds {
				text := fmt.Sprintf("message %d", i)
				gone, ended := p.receive(h.protocol, "/inbox")
				if i%2 == 0 { // after another request, most polls wait; the others have just arrived
					p.want(http.StatusOK, "GET", "/healthz", "", "")
					p.want(http.StatusNoContent, "GET", "/inbox?wait=0", "carol", "")
				}
				h.end(gone)
				p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", text)
				<-ended
				if got := p.want(http.StatusOK, "GET", "/inbox?wait=5", "alice", ""); got.body != text {
					t.Fatalf("round %d: got %q, want %q", i, got.body, text)
				}
			}
			p.want(http.StatusNoContent, "GET", "/inbox?wait=0", "alice", "")
		})
	}
}

// TestUnreadMessageIsKeptWithAfter checks that a message written to a receiver that never
// reads it is delivered again to a receiver that acknowledges with after=.
func TestUnreadMessageIsKeptWithAfter(t *testing.T) {
	for _, h := range hangUps {
		t.Run(h.name, func(t *testing.T) {
			p := start(t, h.scheme)
			p.claim("alice")
			after := ""
			for i := range 20 {
				text := fmt.Sprintf("message %d", i)
				p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", text)
				gone, answered := p.receive(h.protocol, "/inbox?after="+after)
				<-answered // the response has begun, and its message is never read
				h.end(gone)
				for range 2 { // repeated requests lose nothing
					got := p.want(http.StatusOK, "GET", "/inbox?after="+after, "alice", "")
					if got.body != text {
						t.Fatalf("round %d: got %q, want %q", i, got.body, text)
					}
				}
				after = p.want(http.StatusOK, "GET", "/inbox?after="+after, "alice", "").header.Get("X-Message-Id")
			}
			p.want(http.StatusNoContent, "GET", "/inbox?wait=0&after="+after, "alice", "")
		})
	}
}
