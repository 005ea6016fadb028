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

// basic returns the value of the Authorization field for a name.
func basic(name string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":password of "+name))
}

// requestHead returns the beginning of an HTTP/1.1 request. The caller appends further
// header lines and the empty line.
func requestHead(method, target, name string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: inbox\r\nAuthorization: " + basic(name) + "\r\n"
}

// requestStatus sends a request, reads the whole response and returns its status.
// headerFields are pairs of a field name and a value.
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

// wantStatus sends a request and returns an error unless the response has the status want.
func wantStatus(ctx context.Context, c *e2e.Client, method, query string, want int) error {
	got, err := requestStatus(ctx, c, method, query, nil)
	if err == nil && got != want {
		err = fmt.Errorf("%s %s: got %d, want %d", method, query, got, want)
	}
	return err
}

// http1Conn is a persistent HTTP/1.1 connection.
type http1Conn struct {
	net.Conn
	reader *bufio.Reader
}

func newHTTP1Conn(c net.Conn) *http1Conn { return &http1Conn{c, bufio.NewReaderSize(c, 1024)} }

// roundTrip writes a complete request, and returns the status of the response and whether
// the connection can be used again.
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

// closedWithin reports whether the server closes the connection within d.
func closedWithin(c net.Conn, d time.Duration) bool {
	c.SetReadDeadline(time.Now().Add(d))
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	return !errors.As(err, &timeout) || !timeout.Timeout()
}
