package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
)

// httpConn is a persistent connection of HTTP/1.1. It writes prepared requests, which keeps the
// load tool's own CPU time low.
type httpConn struct {
	conn   net.Conn
	reader *bufio.Reader
}

func dialHTTP(ctx context.Context, t target, source net.IP) (*httpConn, error) {
	conn, err := t.dial(ctx, source, "http/1.1")
	if err != nil {
		return nil, err
	}
	return &httpConn{conn, bufio.NewReader(conn)}, nil
}

// roundTrip sends a request and reads the response into body, whose length must match.
// A nil body discards the response.
func (c *httpConn) roundTrip(request, body []byte) (*http.Response, error) {
	resp, err := c.begin(request)
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

// begin sends a request and reads the header of the response.
func (c *httpConn) begin(request []byte) (*http.Response, error) {
	if _, err := c.conn.Write(request); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.reader, nil)
}

func (c *httpConn) close() { _ = c.conn.Close() }

// request returns a request of HTTP/1.1. The fields, each with a line end, are added to those that
// every request has.
func request(line, host, name, fields string, body []byte) []byte {
	head := line + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: load\r\nAuthorization: " + basic(name) + "\r\n" + fields
	if body != nil {
		head += "Content-Type: application/sdp\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	return append([]byte(head+"\r\n"), body...)
}

const password = "loads of it"

func basic(name string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

func statusText(resp *http.Response) string {
	if resp == nil {
		return "no response:"
	}
	return resp.Status
}
