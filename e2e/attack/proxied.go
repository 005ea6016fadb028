package attack

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// proxyProtocol makes all connections come from a proxy at 127.0.0.1 that names its clients.
var proxyProtocol = []string{"-proxy-protocol", "-trusted-proxies", "127.0.0.1"}

// floodThroughProxy opens connections through a proxy for one client, and then for many.
func floodThroughProxy(ctx context.Context, s *scenario) {
	for _, clients := range []int{1, 200} {
		var opened, served atomic.Int64
		var conns [1500]net.Conn
		parallel(len(conns), 16, func(i int) {
			c, err := s.dialTCP(ctx, attackerAddr(i%clients))
			if err != nil {
				return
			}
			conns[i] = c
			opened.Add(1)
			c.SetDeadline(time.Now().Add(20 * time.Second))
			io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
			if status, _, _ := newHTTP1Conn(c).readResponse(); status == http.StatusOK {
				served.Add(1)
			}
		})
		if err := s.newClientIsServed(ctx); err != nil {
			s.fail("a new client beside %s: %v", addresses(clients), err)
		}
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
		s.addFigure("%s: %d opened, %d kept", addresses(clients), opened.Load(), served.Load())
		if clients == 1 && served.Load() > 256 {
			s.fail("got %d open connections of one client, want at most 256", served.Load())
		}
	}
}

// newClientIsServed makes a request on a new connection from another address.
func (s *scenario) newClientIsServed(ctx context.Context) error {
	c := s.peer("newcomer", clientAddr)
	defer c.HTTP.CloseIdleConnections()
	return wantStatus(ctx, c, "GET", "?wait=0", http.StatusNoContent)
}
