package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"inbox/cmd/inbox/internal/server"
)

// h2Client is an HTTP/2 connection at frame level.
type h2Client struct {
	t *testing.T
	*http2.Framer
	text    bytes.Buffer // output of the encoder
	encoder *hpack.Encoder
}

func (p *program) dialFrames() *h2Client {
	p.t.Helper()
	conn := p.dialTLS("h2")
	c := &h2Client{t: p.t, Framer: http2.NewFramer(conn, conn)}
	c.encoder = hpack.NewEncoder(&c.text)
	io.WriteString(conn, http2.ClientPreface)
	c.WriteSettings()
	c.WriteSettingsAck()
	return c
}

// get sends a GET request on a stream.
func (c *h2Client) get(stream uint32, path string) {
	c.t.Helper()
	c.text.Reset()
	for _, f := range [][2]string{{":method", "GET"}, {":path", path}, {":scheme", "https"}, {":authority", "localhost"}} {
		c.encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.text.Bytes(), EndHeaders: true, EndStream: true}); err != nil {
		c.t.Fatal(err)
	}
}

// until reads frames until one matches. It returns false at the end of the connection.
func (c *h2Client) until(wanted func(http2.Frame) bool) bool {
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			return false
		}
		if wanted(frame) {
			return true
		}
	}
}

// answered waits for the end of a response.
func (c *h2Client) answered(stream uint32) bool {
	return c.until(func(f http2.Frame) bool {
		return f.Header().StreamID == stream && f.Header().Flags.Has(http2.FlagDataEndStream)
	})
}

// TestShutdownFinishesHTTP2Posts checks that a post over HTTP/2 whose body is in flight when
// the server stops gets a response.
func TestShutdownFinishesHTTP2Posts(t *testing.T) {
	t.Parallel()
	p := startWithTimeouts(t, server.DefaultTimeouts())
	p.claim("alice")
	body, write := io.Pipe()
	status := make(chan string, 1)
	r, _ := http.NewRequest("POST", p.url+"/inbox?to=alice", body)
	r.SetBasicAuth("bob", "password of bob")
	go func() {
		a, err := p.send(r)
		status <- fmt.Sprintf("%s %d %v", a.proto, a.status, err)
	}()
	io.WriteString(write, "hel") // returns once it is being sent
	p.cancel()
	time.Sleep(2 * server.DefaultTimeouts().Drain)
	io.WriteString(write, "lo")
	write.Close()
	if got := <-status; got != "HTTP/2.0 200 <nil>" {
		t.Errorf("got %s, want 200 over HTTP/2", got)
	}
	if code := p.stop(); code != exitDone {
		t.Errorf("exit code %d", code)
	}
}

// TestShutdownSendsGoAwayToIdleHTTP2 checks that an idle HTTP/2 connection receives GOAWAY
// well before it is closed, and that requests before GOAWAY get a response.
func TestShutdownSendsGoAwayToIdleHTTP2(t *testing.T) {
	t.Parallel()
	timeouts := server.DefaultTimeouts()
	timeouts.Drain = 4 * time.Second // for busy machines
	p := startWithTimeouts(t, timeouts)
	idle, late := p.dialFrames(), p.dialFrames()
	for _, c := range []*h2Client{idle, late} {
		if c.get(1, "/healthz"); !c.answered(1) {
			t.Fatal("no response")
		}
	}
	time.Sleep(100 * time.Millisecond)
	p.cancel()
	time.Sleep(timeouts.Drain / 4)
	if late.get(3, "/healthz"); !late.answered(3) {
		t.Error("a request before GOAWAY got no response")
	}
	isGoAway := func(f http2.Frame) bool {
		goAway, ok := f.(*http2.GoAwayFrame)
		return ok && goAway.ErrCode == http2.ErrCodeNo && goAway.LastStreamID == 1
	}
	if !idle.until(isGoAway) {
		t.Fatal("the connection was closed without GOAWAY")
	}
	began := time.Now()
	idle.get(3, "/healthz") // above the last stream ID of GOAWAY
	if idle.answered(3) {
		t.Error("a request after GOAWAY got a response")
	}
	if took := time.Since(began); took < timeouts.Drain/8 || took > timeouts.Drain {
		t.Errorf("the connection was closed %v after GOAWAY, want the second that x/net allows", took)
	}
	if code := p.stop(); code != exitDone {
		t.Errorf("exit code %d:\n%s", code, p.log)
	}
}
