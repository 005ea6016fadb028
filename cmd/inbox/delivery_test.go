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

// rounds is how often a receiver hangs up, in each way. The original lost one message in eight.
const rounds = 150

// hangUps end a receiver's connection as a program, a crash or a network does.
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

// resetConn says no goodbye: not TLS's, not TCP's.
func resetConn(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// receive sends a GET of alice over a connection of its own and returns that,
// and what is closed once the answer begins or the connection has ended.
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

// A receiver whose poll is held hangs up right before a message arrives. The
// next to ask gets the message.
func TestHangUpBeforeAMessageLosesNothing(t *testing.T) {
	for _, h := range hangUps {
		t.Run(h.name, func(t *testing.T) {
			p := start(t, h.scheme)
			p.claim("alice")
			for i := range rounds {
				text := fmt.Sprintf("message %d", i)
				gone, ended := p.receive(h.protocol, "/inbox")
				if i%2 == 0 { // most polls are held by the end of another request; the rest just began
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

// A message that was written to a receiver who never read it is lost, unless
// the receiver acknowledges what it got.
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
				<-answered // it is under way, and its message is never read
				h.end(gone)
				for range 2 { // asking twice loses nothing
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
