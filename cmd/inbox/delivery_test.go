package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// rounds is how often a receiver hangs up, in each way. The original lost one message in eight.
const rounds = 150

// hangUp ends a connection as a program, a crash or a network does.
var hangUps = []struct {
	name, scheme string
	end          func(net.Conn)
}{
	{"closed", "-https=false", func(c net.Conn) { c.Close() }},
	{"reset", "-https=false", func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() }},
	{"closed over TLS", "-https=true", func(c net.Conn) { c.Close() }},
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
				gone := p.dial()
				io.WriteString(gone, "GET /inbox HTTP/1.1\r\nHost: x\r\n"+basic("alice")+"\r\n")
				if i%2 == 0 { // most polls are held by the end of another request; the rest just began
					p.want(http.StatusOK, "GET", "/healthz", "", "")
					p.want(http.StatusNoContent, "GET", "/inbox?wait=0", "carol", "")
				}
				h.end(gone)
				p.want(http.StatusOK, "POST", "/inbox?to=alice", "bob", text)
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
				gone := p.dial()
				io.WriteString(gone, "GET /inbox?after="+after+" HTTP/1.1\r\nHost: x\r\n"+basic("alice")+"\r\n")
				gone.Read(make([]byte, 1)) // the answer is under way, and never read
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
