package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"regexp"
	"testing"
	"time"
)

var handshakesWaited = regexp.MustCompile(`inbox_limited_total\{limit="handshakes"\} [1-9]`)

// TestHandshakesAreLimited checks that concurrent handshakes of one address wait, unless
// the connection limit per address is off.
func TestHandshakesAreLimited(t *testing.T) {
	for _, row := range []struct {
		name   string
		args   []string
		waited bool
	}{
		{"default", nil, true},
		{"without a limit", []string{"-max-conns-per-ip", "0"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := start(t, append(row.args, "-metrics-bind", "127.0.0.1:0", "-conn-rate", "0")...)
			for try := 0; ; try++ { // with one processor, handshakes do not overlap in every attempt
				p.sendClientHellos(32)
				_, text := p.metrics("/metrics", "")
				waited := handshakesWaited.MatchString(text)
				if waited && !row.waited {
					t.Fatal("a handshake waited, want none to wait")
				}
				if waited || !row.waited && try == 2 {
					return
				}
				if try == 20 {
					t.Fatal("no handshake waited, want some to wait")
				}
			}
		})
	}
}

// sendClientHellos sends n ClientHellos and waits for the responses.
func (p *program) sendClientHellos(n int) {
	p.t.Helper()
	r := new(helloRecorder)
	tls.Client(r, &tls.Config{InsecureSkipVerify: true}).Handshake()
	var conns []net.Conn
	for range n {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			p.t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	for _, c := range conns {
		c.Write(r.Bytes())
	}
	for _, c := range conns {
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			p.t.Errorf("no response to a ClientHello: %v", err)
		}
	}
}

// helloRecorder records a ClientHello and fails the read that follows.
type helloRecorder struct {
	net.Conn
	bytes.Buffer
}

func (r *helloRecorder) Read([]byte) (int, error)    { return 0, io.EOF }
func (r *helloRecorder) Write(p []byte) (int, error) { return r.Buffer.Write(p) }
func (r *helloRecorder) Close() error                { return nil }
