package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"inbox/cmd/inbox/internal/server"
)

// BenchmarkRelay measures a POST and the GET that receives it, over persistent TCP
// connections: to a handler that stores the body without any checks, to the same handler
// with the header fields of inbox, and to the whole program. The client runs in the same
// process: pin it to one core to compare.
func BenchmarkRelay(b *testing.B) {
	b.Run("bare", func(b *testing.B) { relayOver(b, serveBare(b, bareHandler{bodies: make(chan []byte, 1)})) })
	b.Run("bare-with-our-fields", func(b *testing.B) {
		relayOver(b, serveBare(b, bareHandler{bodies: make(chan []byte, 1), withHeaders: true}))
	})
	b.Run("inbox", func(b *testing.B) { relayOver(b, serveProgram(b)) })
}

// bareHandler relays bodies without any checks.
type bareHandler struct {
	bodies      chan []byte
	withHeaders bool
}

func (s bareHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.withHeaders {
		w.Header()["Cache-Control"] = []string{"no-store"}
		w.Header()["X-Content-Type-Options"] = []string{"nosniff"}
		w.Header()["Content-Security-Policy"] = []string{"default-src 'none'; frame-ancestors 'none'; sandbox"}
	}
	if r.Method == http.MethodPost {
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err == nil {
			s.bodies <- body
		}
		return
	}
	select {
	case body := <-s.bodies:
		w.Header()["Content-Type"] = []string{"application/octet-stream"}
		if s.withHeaders {
			w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
			w.Header()["X-From"] = []string{"sender-1"}
			w.Header()["X-Message-Id"] = []string{strconv.FormatInt(time.Now().UnixMicro(), 10)}
		}
		w.Write(body)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func serveBare(b *testing.B, s bareHandler) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: s}
	go server.Serve(l)
	b.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

func serveProgram(b *testing.B) string {
	ctx, cancel := context.WithCancel(context.Background())
	out, exit := newOutput(), make(chan int, 1)
	args := []string{"-bind", "127.0.0.1:0", "-state", b.TempDir(), "-https=false", "-rate", "1000000", "-burst", "1000000", "-conn-rate", "0"}
	go func() {
		exit <- run(ctx, process{args: args, stdout: io.Discard, stderr: out, timeouts: server.DefaultTimeouts()})
	}()
	b.Cleanup(func() { cancel(); <-exit })
	select {
	case addr := <-out.listening:
		return addr
	case <-time.After(10 * time.Second):
		b.Fatal("the program does not listen")
		return ""
	}
}

func relayOver(b *testing.B, addr string) {
	sender, receiver := dialRelay(b, addr), dialRelay(b, addr)
	body := strings.Repeat("x", 1500)
	post := relayRequest("POST /inbox?to=receiver-1", addr, "sender-1", body)
	get := relayRequest("GET /inbox", addr, "receiver-1", "")
	receiver.roundTrip(b, relayRequest("GET /inbox?wait=0", addr, "receiver-1", ""))
	b.ReportAllocs()
	for b.Loop() {
		sender.roundTrip(b, post)
		receiver.roundTrip(b, get)
	}
}

type relayConn struct {
	net.Conn
	reader *bufio.Reader
}

func dialRelay(b *testing.B, addr string) *relayConn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return &relayConn{c, bufio.NewReader(c)}
}

func relayRequest(line, host, name, body string) []byte {
	auth := base64.StdEncoding.EncodeToString([]byte(name + ":loads of it"))
	field := ""
	if body != "" {
		field = fmt.Sprintf("Content-Type: application/sdp\r\nContent-Length: %d\r\n", len(body))
	}
	return []byte(line + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: load\r\nAuthorization: Basic " + auth + "\r\n" + field + "\r\n" + body)
}

// roundTrip sends a request and reads the response, parsing only what is needed to find
// its end.
func (c *relayConn) roundTrip(b *testing.B, request []byte) {
	if _, err := c.Write(request); err != nil {
		b.Fatal(err)
	}
	length := 0
	for first := true; ; first = false {
		line, err := c.reader.ReadSlice('\n')
		if err != nil || first && !bytes.Contains(line, []byte(" 20")) {
			b.Fatalf("%q %v", line, err)
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			for _, digit := range bytes.TrimSpace(value) {
				length = length*10 + int(digit-'0')
			}
		}
		if len(line) == 2 {
			break
		}
	}
	if _, err := c.reader.Discard(length); err != nil {
		b.Fatal(err)
	}
}
