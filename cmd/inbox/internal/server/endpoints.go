package server

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"inbox/cmd/inbox/internal/conn"
	"inbox/cmd/inbox/internal/metrics"
	"inbox/ratelimit"
)

// endpoint is a listener with the server that accepts its connections.
type endpoint struct {
	socket   net.Listener // as bound
	listener net.Listener // socket with its layers
	probe    *acceptProbe // nil for the admin endpoint
	server   *http.Server
}

// newMainEndpoint builds the endpoint for peers.
func (s *server) newMainEndpoint(socket net.Listener, pages http.Handler, clientIP *ratelimit.ClientIP) *endpoint {
	var tlsConfig *tls.Config
	if s.certs != nil {
		tlsConfig = s.certs.TLSConfig()
		tlsConfig.VerifyConnection = s.meters.handshakes.Count
	}
	e := &endpoint{socket: socket}
	e.listener, e.probe = s.wrapListener(socket, clientIP, tlsConfig)
	e.server = &http.Server{
		Handler:           s.mainHandler(pages),
		ConnContext:       conn.WithInfo,
		ConnState:         s.connTracker.OnState,
		ErrorLog:          s.errorLog.Logger(),
		ReadHeaderTimeout: s.timeouts.Header, // also bounds the TLS handshake
		IdleTimeout:       s.idleTimeout(),
		// WriteTimeout runs from the end of the request header, so it covers reading the
		// body, waiting, and writing the response.
		WriteTimeout:   s.timeouts.Body + s.cfg.PollTimeout + s.timeouts.Write,
		MaxHeaderBytes: s.maxHeaderBytes(),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 100,
			// A buffer of this size is allocated when the header of a frame arrives. The
			// default is 1 MiB.
			MaxReadFrameSize: 16 << 10,
			// Data that a client can send before a handler reads it, such as during a
			// held poll. The default of 1 MiB per connection would exhaust memory.
			MaxReceiveBufferPerConnection: 64 << 10,
			MaxReceiveBufferPerStream:     64 << 10,
			SendPingTimeout:               s.timeouts.Header, // detects clients that vanished, or that never complete a header
			PingTimeout:                   s.timeouts.Header / 2,
			WriteByteTimeout:              s.timeouts.Write,
		},
		// Otherwise net/http would answer OPTIONS * without rate limiting.
		DisableGeneralOptionsHandler: true,
	}
	return e
}

// idleTimeout returns the idle timeout of the main endpoint. It is lower over TLS: proxies
// need a long one, but rarely use TLS to the server.
func (s *server) idleTimeout() time.Duration {
	if s.certs == nil {
		return s.timeouts.Idle
	}
	return min(s.timeouts.Idle, idleTimeoutTLS)
}

// maxHeaderBytes returns MaxHeaderBytes of a server, which reads more.
func (s *server) maxHeaderBytes() int {
	return int(max(1, s.cfg.MaxHeaderBytes-conn.HTTP1HeaderSlack))
}

// newRedirectEndpoint builds the endpoint for plain HTTP.
func (s *server) newRedirectEndpoint(socket net.Listener, httpsPort int, clientIP *ratelimit.ClientIP) *endpoint {
	e := &endpoint{socket: socket}
	e.listener, e.probe = s.wrapListener(socket, clientIP, nil)
	e.server = &http.Server{
		Handler:                      s.redirectHandler(httpsPort),
		ConnContext:                  conn.WithInfo,
		ErrorLog:                     s.errorLog.Logger(),
		ReadHeaderTimeout:            s.timeouts.Header,
		IdleTimeout:                  s.timeouts.Idle,
		WriteTimeout:                 s.timeouts.Body + s.timeouts.Write,
		MaxHeaderBytes:               s.maxHeaderBytes(),
		DisableGeneralOptionsHandler: true,
	}
	return e
}

// newAdminEndpoint builds the endpoint for metrics.
func (s *server) newAdminEndpoint(socket net.Listener) *endpoint {
	return &endpoint{socket: socket, listener: socket, server: metrics.NewAdminServer(metrics.AdminConfig{
		Sources: s.metricsSources(), Hosts: s.cfg.MetricsHosts, ErrorLog: s.errorLog.Logger(),
		HeaderTimeout: s.timeouts.Header, IdleTimeout: s.timeouts.Idle,
	})}
}
