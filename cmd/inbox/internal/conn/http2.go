package conn

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"inbox/ratelimit"

	"golang.org/x/net/http2"
)

//lint:file-ignore SA1019 net/http, which x/net recommends instead, does not serve HTTP/2 on a wrapped connection before Go 1.27

// http2Server serves HTTP/2 connections whose handshake is done. It tracks them, because
// x/net/http2 does not.
type http2Server struct {
	main   *http.Server  // its handler is served
	base   *http.Server  // the configuration; serves nothing, but its Shutdown sends GOAWAY
	h2     *http2.Server // configured for base
	frames *ratelimit.FrameLimiter
	pages  *pageClients

	conns sync.Map      // of *http2Conn
	open  atomic.Int64  // the number of conns
	ended chan struct{} // receives when a connection has ended; never blocks the sender
}

func newHTTP2Server(main *http.Server, frames *ratelimit.FrameLimiter) (*http2Server, error) {
	s := &http2Server{main: main, h2: &http2.Server{}, frames: frames, pages: newPageClients(frames.ClientIP.TrustsPeer), ended: make(chan struct{}, 1)}
	s.base = &http.Server{
		ConnState: s.onState, ErrorLog: main.ErrorLog, HTTP2: main.HTTP2,
		IdleTimeout: main.IdleTimeout, WriteTimeout: main.WriteTimeout, MaxHeaderBytes: main.MaxHeaderBytes + HTTP1HeaderSlack,
	}
	if err := http2.ConfigureServer(s.base, s.h2); err != nil {
		return nil, fmt.Errorf("configure HTTP/2: %w", err)
	}
	return s, nil
}

// serve starts to serve a connection. It returns at once.
func (s *http2Server) serve(c *tls.Conn) {
	h := newHTTP2Conn(s.frames.FrameConn(c))
	h.tls, h.addr = c, s.pages.addrOf(c)
	s.track(h)
	go s.serveConn(h)
}

func (s *http2Server) serveConn(c *http2Conn) {
	defer s.untrack(c)
	defer c.Close()
	defer logPanic(c, s.main.ErrorLog)
	s.h2.ServeConn(c, &http2.ServeConnOpts{
		Context:    WithInfo(context.Background(), c),
		BaseConfig: baseConfig(s.base),
		Handler:    s.main.Handler,
	})
}

func (s *http2Server) track(c *http2Conn) {
	c.idleSince.Store(time.Now().UnixNano())
	s.conns.Store(c, nil)
	s.open.Add(1)
	s.pages.addHTTP2(c.addr, c)
}

func (s *http2Server) untrack(c *http2Conn) {
	s.pages.removeHTTP2(c.addr, c)
	s.conns.Delete(c)
	s.open.Add(-1)
	select {
	case s.ended <- struct{}{}:
	default:
	}
}

// onState follows the state of a connection, as http.Server.ConnState.
func (s *http2Server) onState(c net.Conn, state http.ConnState) {
	h, ok := c.(*http2Conn)
	if !ok {
		return
	}
	at := int64(0)
	if state == http.StateIdle {
		at = time.Now().UnixNano()
	}
	h.idleSince.Store(at)
}

// goAway sends GOAWAY on the connections that are open now.
func (s *http2Server) goAway() {
	_ = s.base.Shutdown(context.Background()) // returns at once, as base has no connections of its own
}

// closeIdle closes the connections that have been idle for at least minIdle.
func (s *http2Server) closeIdle(minIdle time.Duration) {
	before := time.Now().Add(-minIdle).UnixNano()
	s.conns.Range(func(c, _ any) bool {
		if h := c.(*http2Conn); h.idleSince.Load() > 0 && h.idleSince.Load() <= before {
			closeNow(h)
		}
		return true
	})
}

// close closes all connections.
func (s *http2Server) close() {
	s.conns.Range(func(c, _ any) bool {
		closeNow(c.(*http2Conn))
		return true
	})
}

// wait waits until no connection is left, or ctx is done.
func (s *http2Server) wait(ctx context.Context) error {
	for s.open.Load() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ended:
		}
	}
	return nil
}

// HTTP1HeaderSlack is how much longer than MaxHeaderBytes a header of HTTP/1.1 can be. A limit
// less the slack is exact for HTTP/1.1. HTTP/2 has no such slack.
const HTTP1HeaderSlack = 4096
