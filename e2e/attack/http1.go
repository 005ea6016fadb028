package attack

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"inbox/e2e"
)

// basic is the Authorization field of a name.
func basic(name string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":password of "+name))
}

// requestHead begins a request of HTTP/1.1; more header lines and an empty one are to
// follow.
func requestHead(method, target, name string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: inbox\r\nAuthorization: " + basic(name) + "\r\n"
}

// requestStatus asks and returns the status of the answer, with its body read.
func requestStatus(ctx context.Context, c *e2e.Client, method, query string, body io.Reader, headerFields ...string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.Server+"/inbox"+query, body)
	if err != nil {
		return 0, err
	}
	r.SetBasicAuth(c.Name, c.Password)
	for i := 0; i+1 < len(headerFields); i += 2 {
		r.Header.Add(headerFields[i], headerFields[i+1])
	}
	resp, err := c.HTTP.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// wantStatus is status with an answer that is expected.
func wantStatus(ctx context.Context, c *e2e.Client, method, query string, want int) error {
	got, err := requestStatus(ctx, c, method, query, nil)
	if err == nil && got != want {
		err = fmt.Errorf("%s %s: got %d, want %d", method, query, got, want)
	}
	return err
}

// http1Conn is a connection with HTTP/1.1 on it, which a flooder keeps.
type http1Conn struct {
	net.Conn
	reader *bufio.Reader
}

func newHTTP1Conn(c net.Conn) *http1Conn { return &http1Conn{c, bufio.NewReaderSize(c, 1024)} }

// roundTrip writes a whole request and returns the status of the answer, and whether
// the server will take another.
func (l *http1Conn) roundTrip(request string) (status int, keepAlive bool, err error) {
	l.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(l, request); err != nil {
		return 0, false, err
	}
	return l.readResponse()
}

func (l *http1Conn) readResponse() (status int, keepAlive bool, err error) {
	resp, err := http.ReadResponse(l.reader, nil)
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, !resp.Close, err
}

// closedWithin waits until the server closes, at most for d, and reports whether it
// did.
func closedWithin(c net.Conn, d time.Duration) bool {
	c.SetReadDeadline(time.Now().Add(d))
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	return !errors.As(err, &timeout) || !timeout.Timeout()
}
