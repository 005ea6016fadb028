package soak

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"inbox/e2e/talk"
)

// hangUpAfter is how long a connection of a client that hangs up lives at most.
const hangUpAfter = 800 * time.Millisecond

// hangUpDialer makes connections that end, half of them with a reset, as when a process is killed with data unread, or with its last
// bytes on the way.
func hangUpDialer(i int) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 8, 0, byte(1+i))}}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		time.AfterFunc(50*time.Millisecond+rand.N(hangUpAfter), func() {
			if rand.N(2) == 0 {
				_ = c.(*net.TCPConn).SetLinger(0) // fails only on a closed connection
			}
			c.Close()
		})
		return c, nil
	}
}

// TestHangUpsLoseNothing ends each connection of senders and receivers at any moment.
func TestHangUpsLoseNothing(t *testing.T) {
	s := startService(t, false)
	pairs := startTraffic(s, pairCount, talk.Server{Dial: hangUpDialer})
	time.Sleep(durationOr(t, 40*time.Second) / 10)
	pairs.end()
	pairs.checkNoLoss(t)
	for transport, c := range pairs.counters {
		if c.Stats().NoResponse == 0 {
			t.Errorf("%s: no client has hung up", transport)
		}
	}
}

// TestSilentWebSocketDelaysNoRestart restarts the server while a client sleeps, which does not
// answer the close frame. On a busy machine the best of some rounds counts.
func TestSilentWebSocketDelaysNoRestart(t *testing.T) {
	const rounds, most = 5, 4 * time.Second // the server waits five for a close frame
	s := startService(t, true)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	var took time.Duration
	for range rounds {
		c, _, err := websocket.Dial(t.Context(), "https://"+s.addr+"/inbox", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		if err := c.Write(t.Context(), websocket.MessageText, []byte("hello sleeper secret after=")); err != nil {
			t.Fatal(err)
		}
		if _, frame, err := c.Read(t.Context()); err != nil {
			t.Fatalf("got %q, %v, want welcome", frame, err)
		}
		if took, err = s.restart(); err != nil {
			t.Fatal(err)
		}
		if took < most {
			t.Logf("the restart took %v", took)
			return
		}
	}
	t.Errorf("restarts with a silent WebSocket took %v, want less than %v", took, most)
}
