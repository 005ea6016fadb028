package conn

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"inbox/ratelimit"
)

// Server serves HTTP and TURN on the connections of one listener. Over TLS, a connection takes these
// steps:
//
//	accept → TLS handshake in a goroutine of its own → by ALPN protocol → HTTP/2, HTTP/1.1 or TURN
//
// The list of protocols is in [Server.routes]. Each server starts a connection in a new
// goroutine, because a handshake leaves a large stack behind. All methods can be called
// concurrently.
type Server struct {
	tlsConfig  *tls.Config // nil over plain HTTP
	http1      *http.Server
	http2      *http2Server
	newConns   newConns
	handshakes handshakes
	unfinished *ratelimit.UnfinishedLimiter
	turn       func(net.Conn) // nil: off
}

// NewServer returns a server with the configuration and the handler of main, whose
// ReadHeaderTimeout also bounds the TLS handshake and whose IdleTimeout must be set. With a nil
// tlsConfig it serves plain HTTP. Frames throttles HTTP/2, and unfinished limits the headers of
// HTTP/1.1 over TLS. Turn serves a connection of TURN over TLS until it ends; nil is off. Shutdown
// and Close do not affect these connections. NewServer sets main's Protocols, ConnContext and
// ConnState; main must not serve anything else. It puts [ALPNTURN] in front of the protocols of
// tlsConfig. Main's WriteTimeout applies to HTTP/2 only, until a response begins; writes of HTTP/1.1
// are limited by their connections, as those of [LazyListener].
func NewServer(main *http.Server, tlsConfig *tls.Config, frames *ratelimit.FrameLimiter,
	unfinished *ratelimit.UnfinishedLimiter, turn func(net.Conn)) (*Server, error) {
	s := &Server{tlsConfig: tlsConfig, http1: main, unfinished: unfinished, turn: turn}
	if tlsConfig != nil && turn != nil {
		// First: the clients of coturn also offer http/1.1, which no client of HTTP does beside it.
		tlsConfig.NextProtos = append([]string{ALPNTURN}, tlsConfig.NextProtos...)
	}
	s.handshakes = handshakes{timeout: main.ReadHeaderTimeout, log: main.ErrorLog}
	main.Protocols = new(http.Protocols)
	main.Protocols.SetHTTP1(true) // HTTP/2 is served by s.http2
	main.ConnContext = WithInfo
	main.ConnState = s.newConns.onState
	var err error
	s.http2, err = newHTTP2Server(main, frames)
	main.WriteTimeout = 0
	return s, err
}

// routes returns what takes over the connections whose handshake is done, by protocol. Other
// protocols are answered in the handshake itself, as acme-tls/1, or not at all.
func (s *Server) routes(http1 *handover) map[string]func(*tls.Conn) {
	return map[string]func(*tls.Conn){
		"h2":       s.http2.serve,
		"http/1.1": func(c *tls.Conn) { http1.give(c) },
		ALPNTURN:   func(c *tls.Conn) { s.serveTURN(&dataConn{Conn: c, onData: ratelimit.OnData(c)}) },
		"":         s.detect(http1), // the client offers none
	}
}

// Serve accepts connections until the listener fails or is closed, and returns its error.
// Connections that are open, or whose handshake is in progress, are served further until
// [Server.Shutdown] or [Server.Close].
func (s *Server) Serve(l net.Listener) error {
	if s.tlsConfig == nil {
		return s.http1.Serve(l)
	}
	http1 := newHandover(l.Addr())
	go s.http1.Serve(s.unfinished.HeaderListener(s.http2.pages.listener(http1))) // until Shutdown or Close
	return s.handshakes.serve(l, s.tlsConfig, s.routes(http1))
}

// GoAway sends GOAWAY on all HTTP/2 connections: its last stream ID tells a client which
// requests are not processed and can be retried on another server. Idle connections are closed
// a second later, others after their last response. It does not affect connections that are
// made later; for these it can be called again.
func (s *Server) GoAway() { s.http2.goAway() }

// CloseIdle closes the connections that would delay Shutdown although they are idle: those
// whose TLS handshake is in progress; HTTP/1.1 connections without a request, for which
// http.Server.Shutdown waits five seconds; and HTTP/2 connections that have been idle for at
// least minIdle, because the end of a recent response can still be in transit. No further
// handshake completes after it.
func (s *Server) CloseIdle(minIdle time.Duration) {
	s.handshakes.abort()
	s.newConns.close()
	s.http2.closeIdle(minIdle)
}

// Shutdown sends GOAWAY and waits for the requests in progress until ctx is done. It does not
// wait for TLS handshakes.
func (s *Server) Shutdown(ctx context.Context) error {
	s.GoAway()
	if err := s.http1.Shutdown(ctx); err != nil {
		return err
	}
	return s.http2.wait(ctx)
}

// Close closes all connections.
func (s *Server) Close() {
	s.handshakes.abort()
	s.http2.close()
	s.http1.Close()
}
