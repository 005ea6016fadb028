package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"inbox/inbox"
	"inbox/internal/netconn"
)

// echo returns what it reads, after its name.
func echo(c net.Conn) {
	io.WriteString(c, "TURN ")
	io.Copy(c, c)
}

// allocate is the begin of an Allocate request (RFC 8656) with the length of its attributes.
const allocate = "\x00\x03\x00\x08"

func TestTURNBesideHTTP(t *testing.T) {
	s := startServerWithTURN(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || infoOf(r) == nil || !inbox.Alive(r) {
			t.Errorf("%s: got a request without TLS state or connection information, or of a closed connection", r.Proto)
		}
		io.WriteString(w, r.Proto)
	}, nil, echo)
	const get = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
	for _, row := range []struct {
		name      string
		protocols []string
		send      string
		want      string
	}{
		{"TURN without ALPN", nil, allocate + "more", "TURN " + allocate + "more"},
		{"highest message type", nil, "\x03\xff", "TURN \x03\xff"},
		{"TURN by its ALPN protocol", []string{"stun.turn"}, allocate, "TURN " + allocate},
		{"not STUN by its ALPN protocol", []string{"stun.turn"}, get, "TURN " + get},
		{"HTTP without ALPN", nil, get, "HTTP/1.1"},
		{"channel data without ALPN", nil, "\x40\x00\x00\x00\r\n\r\n", "HTTP/1.1 400"},
		{"TURN, although the client offers HTTP as well", []string{"http/1.1", "stun.turn", "stun.nat-discovery"}, allocate, "TURN " + allocate},
		{"HTTP by its ALPN protocol", []string{"http/1.1"}, get, "HTTP/1.1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := s.dial(row.protocols...)
			io.WriteString(c, row.send)
			c.CloseWrite()
			got, _ := io.ReadAll(c)
			if !strings.HasPrefix(string(got), row.want) {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// TestFirstByteWithTheHandshake sends application data together with the last message of the
// handshake.
func TestFirstByteWithTheHandshake(t *testing.T) {
	s := startServerWithTURN(t, time.Minute, nil, nil, echo)
	raw := s.dialTCP()
	c := tls.Client(&flushOnRead{Conn: raw}, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, allocate)
	got := make([]byte, len("TURN "+allocate))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "TURN "+allocate {
		t.Errorf("got %q, %v", got, err)
	}
}

// flushOnRead sends what was written only before the next read.
type flushOnRead struct {
	net.Conn
	buffered []byte
}

func (c *flushOnRead) Write(p []byte) (int, error) {
	c.buffered = append(c.buffered, p...)
	return len(p), nil
}

func (c *flushOnRead) Read(p []byte) (int, error) {
	if len(c.buffered) > 0 {
		if _, err := c.Conn.Write(c.buffered); err != nil {
			return 0, err
		}
		c.buffered = nil
	}
	return c.Conn.Read(p)
}

func TestSilentConnectionsWithoutALPN(t *testing.T) {
	t.Run("timeout", func(t *testing.T) {
		s := startServerWithTURN(t, 200*time.Millisecond, nil, nil, echo)
		c := s.dial()
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want the end of the connection", err)
		}
	})
	t.Run("shutdown", func(t *testing.T) {
		s := startServerWithTURN(t, time.Minute, nil, nil, echo)
		c := s.dial()
		s.waitHandshakes(1)
		s.CloseIdle(time.Hour)
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want the end of the connection", err)
		}
	})
}

// oldConn was accepted an hour ago.
type oldConn struct{ net.Conn }

func (c oldConn) Accepted() time.Time { return time.Now().Add(-time.Hour) }
func (c oldConn) NetConn() net.Conn   { return c.Conn }

// TestTimeoutBeginsWithTheConnection gives neither the handshake nor the first byte a timeout of
// its own.
func TestTimeoutBeginsWithTheConnection(t *testing.T) {
	h := &handshakes{timeout: time.Minute, log: log.New(io.Discard, "", 0)}
	for _, row := range []struct {
		name string
		wait func(*tls.Conn) bool
	}{
		{"handshake", h.handshake},
		{"first byte", func(c *tls.Conn) bool { return h.readFirst(&dataConn{Conn: c, onData: func() {}}) }},
	} {
		near, far := net.Pipe()
		ended := make(chan bool, 1)
		go func() {
			ended <- row.wait(tls.Server(oldConn{far}, &tls.Config{Certificates: []tls.Certificate{testCertificate()}}))
		}()
		select {
		case ok := <-ended:
			if ok {
				t.Errorf("%s: got data of a silent client", row.name)
			}
		case <-time.After(waitDeadline):
			t.Errorf("%s: waits a timeout more", row.name)
		}
		near.Close()
		far.Close()
	}
	if got := (&handshakes{}).deadline(oldConn{}); !got.IsZero() {
		t.Errorf("without a timeout: got %v", got)
	}
}

// TestTURNConnection checks that TURN gets a connection without a deadline whose layers can be
// found, that Shutdown does not wait for it, and that a panic ends nothing else.
func TestTURNConnection(t *testing.T) {
	served := make(chan net.Conn, 1)
	s := startServerWithTURN(t, time.Second, nil, nil, func(c net.Conn) {
		served <- c
		c.Read(make([]byte, 1)) // the first byte
		if _, err := c.Read(make([]byte, 1)); err == nil {
			panic("a bug")
		}
	})
	c := s.dial()
	io.WriteString(c, "\x00")
	got := <-served
	if _, ok := netconn.Find[*net.TCPConn](got); !ok {
		t.Error("no TCP connection found")
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	time.Sleep(2 * time.Second) // longer than the timeout of the first byte
	io.WriteString(c, "x")
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end of the connection", err)
	}
	s.waitLog("http: panic serving 127.0.0.1:")
}

func TestWithoutTURN(t *testing.T) {
	s := startServer(t, time.Minute, nil, nil)
	c := tls.Client(s.dialTCP(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"stun.turn"}})
	if err := c.Handshake(); err == nil {
		t.Error("stun.turn was accepted")
	}
	plain := s.dial()
	io.WriteString(plain, allocate+"\r\n\r\n")
	if got, _ := io.ReadAll(plain); !strings.HasPrefix(string(got), "HTTP/1.1 400") {
		t.Errorf("got %q, want status 400", got)
	}
}
