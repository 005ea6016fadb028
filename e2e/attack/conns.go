package attack

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// connectionFlood opens connections as fast as possible and keeps them, from one address
// and then from enough addresses to fill the server.
func connectionFlood(d time.Duration) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		opened, stillOpen := s.openAll(ctx, d, 8, func(int) string { return attackerAddr(0) })
		s.addFigure("one address: %d opened in %v, %d kept by the server", opened, d, stillOpen)
		if stillOpen > 256 {
			s.fail("got %d open connections of one address, want at most 256", stillOpen)
		}
		opened, stillOpen = s.openAll(ctx, d, 8, func(i int) string { return attackerAddr(1 + i%200) })
		s.addFigure("200 addresses: %d opened, %d kept", opened, stillOpen)
	}
}

// maxOpened bounds a flood of connections: each is a file descriptor of this process, too.
const maxOpened = 1500

// openAll opens connections for d, and returns how many it opened and how many the server
// kept open.
func (s *scenario) openAll(ctx context.Context, d time.Duration, concurrency int, from func(i int) string) (opened, stillOpen int64) {
	flooding, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var n, open atomic.Int64
	conns := make(chan net.Conn, maxOpened)
	parallel(concurrency, concurrency, func(int) {
		for flooding.Err() == nil {
			i := n.Add(1) - 1
			if i >= maxOpened {
				return
			}
			if c, err := s.dialTCP(flooding, from(int(i))); err == nil {
				conns <- c
			}
		}
	})
	close(conns)
	sleep(ctx, 1500*time.Millisecond) // the server keeps refused connections open for a second
	var openConns []net.Conn
	for c := range conns {
		openConns = append(openConns, c)
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); isTimeout(err) {
			open.Add(1)
		}
	}
	for _, c := range openConns {
		c.Close()
	}
	return min(n.Load(), maxOpened), open.Load()
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// handshakeFlood makes TLS handshakes and closes the connections.
func handshakeFlood(d time.Duration) func(context.Context, *scenario) {
	return func(ctx context.Context, s *scenario) {
		for _, addrs := range []int{1, 50} {
			before := s.cpu()
			done, refused := s.handshakes(ctx, d, addrs)
			s.addFigure("%s: %d handshakes and %d refusals in %v, %d ms of CPU",
				addresses(addrs), done, refused, d, (s.cpu() - before).Milliseconds())
			// The default rate is 50 a second, with a burst of five times as many.
			if most := int64(addrs) * (250 + 50*int64(d/time.Second+1)); done > most {
				s.fail("%s: got %d handshakes, want at most %d", addresses(addrs), done, most)
			}
		}
	}
}

func addresses(n int) string {
	if n == 1 {
		return "one address"
	}
	return fmt.Sprint(n, " addresses")
}

func (s *scenario) handshakes(ctx context.Context, d time.Duration, addrs int) (done, refused int64) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var completed, rejected atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for k := i; ctx.Err() == nil; k += 16 {
				c, err := s.dialTCP(ctx, attackerAddr(k%addrs))
				if err != nil {
					continue
				}
				t := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
				if t.HandshakeContext(ctx) == nil {
					completed.Add(1)
				} else {
					rejected.Add(1)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	return completed.Load(), rejected.Load()
}
