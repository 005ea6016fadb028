package main

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// dialTLS opens a TLS connection with one ALPN protocol.
func (p *program) dialTLS(protocol string) *tls.Conn {
	p.t.Helper()
	c, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// pings sends n PINGs on a new connection and counts the ACKs received within d.
func (p *program) pings(n int, d time.Duration) (answered int) {
	p.t.Helper()
	c := p.dialTLS("h2")
	f := http2.NewFramer(c, c)
	io.WriteString(c, http2.ClientPreface)
	f.WriteSettings()
	unanswered := make(chan struct{}, 1000) // the server closes a connection that has 10,000
	go func() {
		for range n {
			select {
			case unanswered <- struct{}{}:
			case <-p.t.Context().Done():
				return
			}
			if f.WritePing(false, [8]byte{}) != nil {
				return // closed at the end of the test
			}
		}
	}()
	c.SetReadDeadline(time.Now().Add(d))
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return answered
		}
		if ping, ok := frame.(*http2.PingFrame); ok && ping.IsAck() {
			<-unanswered
			if answered++; answered == n {
				return answered
			}
		}
	}
}

// TestHTTP2FramesAreLimited checks that frames without a request are limited by a token
// bucket of their own.
func TestHTTP2FramesAreLimited(t *testing.T) {
	p := start(t, "-rate", "1", "-burst", "1") // 10 frames a second
	if got := p.pings(500, time.Second); got == 0 || got > 60 {
		t.Errorf("got %d of 500 PINGs answered in a second, want the burst and a few more", got)
	}
	if got := start(t).pings(500, 5*time.Second); got != 500 {
		t.Errorf("by default: got %d of 500 PINGs answered, want all", got)
	}
	if got := start(t, "-rate", "0").pings(20_000, 10*time.Second); got != 20_000 {
		t.Errorf("without a limit: got %d of 20000 PINGs answered, want all", got)
	}
}

// TestTinyRecordsAreLimited sends each byte of a header as a separate TLS record, which
// costs more tokens than the request.
func TestTinyRecordsAreLimited(t *testing.T) {
	p := start(t, "-rate", "1", "-burst", "1")
	c := p.dialTLS("http/1.1")
	answers := bufio.NewReader(c)
	began := time.Now()
	for range 4 { // the tokens of one request are charged before the next is read
		for _, b := range []byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") {
			if _, err := c.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		a, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, a.Body)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("four requests took %v, want more than a second", took)
	}
}

// TestLargeMessagesOverHTTP2AreNotLimited checks that transferring large messages stays
// below the frame limit.
func TestLargeMessagesOverHTTP2AreNotLimited(t *testing.T) {
	p := start(t, "-metrics-bind", "127.0.0.1:0")
	p.claim("bob")
	body := strings.Repeat("x", 1<<20)
	for range 24 {
		if a := p.request("POST", "/inbox?to=bob", "bob", body); a.status != 200 {
			t.Fatalf("send: got %d", a.status)
		}
		if a := p.request("GET", "/inbox?wait=0", "bob", ""); len(a.body) != len(body) {
			t.Fatalf("read: got %d bytes", len(a.body))
		}
	}
	if _, text := p.metrics("/metrics", ""); !strings.Contains(text, "inbox_limited_total{limit=\"frames\"} 0\n") {
		t.Error("the connection was throttled, want no throttling")
	}
}
