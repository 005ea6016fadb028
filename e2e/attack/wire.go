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

// head begins a request of HTTP/1.1; more header lines and an empty one are to
// follow.
func head(method, target, name string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: inbox\r\nAuthorization: " + basic(name) + "\r\n"
}

// status asks and returns the status of the answer, with its body read.
func status(ctx context.Context, c *e2e.Client, method, query string, body io.Reader, fields ...string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.Server+"/inbox"+query, body)
	if err != nil {
		return 0, err
	}
	r.SetBasicAuth(c.Name, c.Password)
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	answer, err := c.HTTP.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}

// ask is status with an answer that is expected.
func ask(ctx context.Context, c *e2e.Client, method, query string, want int) error {
	got, err := status(ctx, c, method, query, nil)
	if err == nil && got != want {
		err = fmt.Errorf("%s %s: got %d, want %d", method, query, got, want)
	}
	return err
}

// line is a connection with HTTP/1.1 on it, which a flooder keeps.
type line struct {
	net.Conn
	answers *bufio.Reader
}

func newLine(c net.Conn) *line { return &line{c, bufio.NewReaderSize(c, 1024)} }

// ask writes a whole request and returns the status of the answer, and whether
// the server will take another.
func (l *line) ask(request string) (status int, goesOn bool, err error) {
	l.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(l, request); err != nil {
		return 0, false, err
	}
	return l.answer()
}

func (l *line) answer() (status int, goesOn bool, err error) {
	answer, err := http.ReadResponse(l.answers, nil)
	if err != nil {
		return 0, false, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, !answer.Close, err
}

// ended waits until the server closes, at most for d, and reports whether it
// did.
func ended(c net.Conn, d time.Duration) bool {
	c.SetReadDeadline(time.Now().Add(d))
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	return !errors.As(err, &timeout) || !timeout.Timeout()
}
