// Package websocket tests the server's WebSockets with clients of others.
package websocket

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inbox/internal/netconn"
	server "inbox/internal/websocket"

	"github.com/coder/websocket"
)

const timeout = 30 * time.Second

// echo repeats messages.
type echo struct {
	conn   *server.Conn
	closed chan error
}

func (e *echo) Allow(server.Kind, []byte) (time.Duration, bool) { return 0, false }
func (e *echo) Message(kind server.Kind, payload []byte)        { e.conn.Write(kind, payload) }
func (e *echo) Pong([]byte)                                     {}
func (e *echo) Woken()                                          {}
func (e *echo) Closed(err error)                                { e.closed <- err }

// dial returns a client of coder/websocket, and the handler of its connection.
func dial(t *testing.T, overTLS bool) (*websocket.Conn, *echo) {
	t.Helper()
	handlers := make(chan *echo, 1)
	config := &server.Config{Protocols: []string{"echo"}, MaxMessageBytes: 1 << 20, CloseTimeout: timeout}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := server.Upgrade(w, r, config)
		if err != nil {
			t.Error(err)
			return
		}
		e := &echo{c, make(chan error, 1)}
		handlers <- e
		c.Start(e)
	}))
	s.Listener = netconn.FetchListener(s.Listener)
	if overTLS {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(s.URL, "http"), &websocket.DialOptions{
		HTTPClient: s.Client(), Subprotocols: []string{"other", "echo"}, CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Subprotocol() != "echo" {
		t.Errorf("got subprotocol %q", c.Subprotocol())
	}
	c.SetReadLimit(1 << 21)
	return c, <-handlers
}

func TestCoderClient(t *testing.T) {
	for name, overTLS := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			c, e := dial(t, overTLS)
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			for _, n := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
				for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
					sent := bytes.Repeat([]byte("x"), n)
					if err := c.Write(ctx, kind, sent); err != nil {
						t.Fatal(err)
					}
					if gotKind, got, err := c.Read(ctx); err != nil || gotKind != kind || !bytes.Equal(got, sent) {
						t.Fatalf("got %v with %d bytes, %v, want %v with %d", gotKind, len(got), err, kind, n)
					}
				}
			}
			read := c.CloseRead(ctx) // answers pings and reads pongs
			if err := c.Ping(ctx); err != nil {
				t.Error(err)
			}
			if err := c.Close(4000, "done"); err != nil {
				t.Error(err)
			}
			<-read.Done()
			wantClosed(t, e, &server.CloseError{Code: 4000, Reason: "done", Remote: true})
		})
	}
}

// TestServerClosesCoderClient checks the close handshake that the server begins.
func TestServerClosesCoderClient(t *testing.T) {
	c, e := dial(t, false)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	e.conn.Close(server.GoingAway, "stopping")
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("got %v", err)
	}
	wantClosed(t, e, &server.CloseError{Code: server.GoingAway, Reason: "stopping"})
}

func TestCoderClientSendsTooMuch(t *testing.T) {
	c, _ := dial(t, false)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	go c.Write(ctx, websocket.MessageBinary, make([]byte, 1<<20+1))
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("got %v", err)
	}
}

func wantClosed(t *testing.T, e *echo, want *server.CloseError) {
	t.Helper()
	select {
	case err := <-e.closed:
		if got, ok := err.(*server.CloseError); !ok || *got != *want {
			t.Errorf("got %v, want %v", err, want)
		}
	case <-time.After(timeout):
		t.Error("the connection is not closed")
	}
}
