package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// httpConn is a persistent connection of one peer. It writes prepared requests, which
// keeps the load tool's own CPU time low.
type httpConn struct {
	conn   net.Conn
	reader *bufio.Reader
}

// dial connects from the pair's own loopback address.
func dial(ctx context.Context, t target, pair int) (*httpConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: address(pair)}}
	conn, err := d.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	if t.https {
		// The servers are local and have self-signed certificates. TLS is used for its cost.
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	}
	return &httpConn{conn, bufio.NewReader(conn)}, nil
}

// address returns the source address of a pair, from 127.0.1.1 on.
func address(pair int) net.IP { return net.IPv4(127, 0, byte(1+pair/250), byte(1+pair%250)) }

// roundTrip sends a request and reads the response into body, whose length must match.
// A nil body discards the response.
func (l *httpConn) roundTrip(request, body []byte) (*http.Response, error) {
	if _, err := l.conn.Write(request); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(l.reader, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK && len(body) > 0 {
		_, err = io.ReadFull(resp.Body, body)
	}
	if err != nil {
		return nil, fmt.Errorf("read response body: %w", err)
	}
	if extra, err := io.Copy(io.Discard, resp.Body); extra > 0 && body != nil || err != nil {
		return nil, fmt.Errorf("response %s has %d excess bytes (%v)", resp.Status, extra, err)
	}
	return resp, nil
}

// pair is a sender and a receiver.
type pair struct {
	sender, receiver *httpConn
	post, get, body  []byte
	received         []byte
	acknowledge      bool
	lastID           string
}

// claimTimeout bounds the first GET, in case a server ignores wait=0.
const claimTimeout = 5 * time.Second

// newPair connects both peers and claims the name of the receiver.
func newPair(ctx context.Context, cfg config, t target, n int) (p *pair, err error) {
	p = &pair{acknowledge: cfg.acknowledge, received: make([]byte, cfg.size)}
	p.body = bytes.Repeat([]byte("v=0\r\n"), cfg.size/5+1)[:cfg.size]
	to := "receiver-" + strconv.Itoa(n)
	p.post = request("POST /inbox?to="+to, t.addr, "sender-"+strconv.Itoa(n), p.body)
	p.get = request("GET /inbox", t.addr, to, nil)
	if p.sender, err = dial(ctx, t, n); err != nil {
		return nil, err
	}
	if p.receiver, err = dial(ctx, t, n); err != nil {
		return nil, err
	}
	timer := time.AfterFunc(claimTimeout, func() { _ = p.receiver.conn.Close() })
	defer timer.Stop()
	// A restarted server can still have a message that an earlier run did not acknowledge.
	resp, err := p.receiver.roundTrip(request("GET /inbox?wait=0", t.addr, to, nil), nil)
	if err != nil {
		return nil, fmt.Errorf("claim name: %w (the server must answer GETs of empty mailboxes at once)", err)
	}
	if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("claim name: got %s", resp.Status)
	}
	return p, nil
}

func request(line, host, name string, body []byte) []byte {
	head := line + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: load\r\nAuthorization: Basic " +
		base64.StdEncoding.EncodeToString([]byte(name+":loads of it")) + "\r\n"
	if body != nil {
		head += "Content-Type: application/sdp\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	return append([]byte(head+"\r\n"), body...)
}

// relay sends one message and checks that the receiver gets it.
func (p *pair) relay() error {
	resp, err := p.sender.roundTrip(p.post, []byte{})
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("send message: %v %w", statusText(resp), err)
	}
	get := p.get
	if p.acknowledge {
		get = bytes.Replace(get, []byte(" HTTP"), []byte("?after="+p.lastID+" HTTP"), 1)
	}
	resp, err = p.receiver.roundTrip(get, p.received)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("receive message: %v %w", statusText(resp), err)
	}
	p.lastID = resp.Header.Get("X-Message-Id")
	if !bytes.Equal(p.received, p.body) {
		return fmt.Errorf("receive message: content differs from the sent one")
	}
	return nil
}

func statusText(resp *http.Response) string {
	if resp == nil {
		return "no response:"
	}
	return resp.Status
}

func (p *pair) close() {
	_ = p.sender.conn.Close()
	_ = p.receiver.conn.Close()
}
