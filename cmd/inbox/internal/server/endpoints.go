package server

import (
	"log"
	"net"
	"net/http"

	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/conn"
)

// endpoint is a listener with the server that accepts its connections.
type endpoint struct {
	socket   net.Listener // as bound
	listener net.Listener // socket with its layers
	probe    *acceptProbe // nil for the admin endpoint
	server   *http.Server
}

// newMainServer returns the server for peers, of which [conn.NewServer] makes one of HTTP/1.1
// and one of HTTP/2.
func newMainServer(c *config.Config, t Timeouts, h http.Handler, errorLog *log.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ErrorLog:          errorLog,
		ReadHeaderTimeout: t.Header, // also bounds the TLS handshake
		IdleTimeout:       t.idle(c.HTTPS),
		// For requests of HTTP/2, from their header until the first byte of the response is
		// written: reading the body and waiting. Then limits.Streams sets the deadlines.
		WriteTimeout:   t.Body + c.PollTimeout + t.Write,
		MaxHeaderBytes: maxHeaderBytes(c),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 100,
			// A buffer of this size is allocated when the header of a frame arrives. The
			// default is 1 MiB.
			MaxReadFrameSize: 16 << 10,
			// Data that a client can send before a handler reads it, such as during a
			// waiting poll. The default of 1 MiB per connection would exhaust memory.
			MaxReceiveBufferPerConnection: 64 << 10,
			MaxReceiveBufferPerStream:     64 << 10,
			SendPingTimeout:               t.Header, // detects clients that vanished, or that never complete a header
			PingTimeout:                   t.Header / 2,
		},
		// Otherwise net/http would answer OPTIONS * without rate limiting.
		DisableGeneralOptionsHandler: true,
	}
}

// maxHeaderBytes returns MaxHeaderBytes of a server, which reads more.
func maxHeaderBytes(c *config.Config) int {
	return int(max(1, c.MaxHeaderBytes-conn.HTTP1HeaderSlack))
}

// newRedirectServer returns the server for plain HTTP.
func newRedirectServer(c *config.Config, t Timeouts, h http.Handler, errorLog *log.Logger) *http.Server {
	return &http.Server{
		Handler:                      h,
		ConnContext:                  conn.WithInfo,
		ErrorLog:                     errorLog,
		ReadHeaderTimeout:            t.Header,
		IdleTimeout:                  t.Idle,
		MaxHeaderBytes:               maxHeaderBytes(c),
		DisableGeneralOptionsHandler: true,
	}
}
