package soak

import (
	"context"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"inbox/e2e/talk"
)

// hangUpAfter is how long a connection of a client that hangs up lives at most.
const hangUpAfter = 800 * time.Millisecond

// hangUpConn ends with a reset, as when a process is killed with data unread, or with its last
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
	time.Sleep(4 * time.Second)
	pairs.end()
	pairs.checkNoLoss(t)
	for transport, c := range pairs.counters {
		if c.Stats().NoResponse == 0 {
			t.Errorf("%s: no client has hung up", transport)
		}
	}
}
