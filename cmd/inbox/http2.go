package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"

	"golang.org/x/net/http2"
)

//lint:file-ignore SA1019 x/net wants net/http to serve HTTP/2, which takes no connection of ours

// configureHTTP2 makes the server count the frames of HTTP/2. net/http has no place
// between TLS and HTTP/2, so its twin in x/net serves the latter.
//
// That one says goodbye to all its connections (GOAWAY) at the Shutdown of the
// server that it belongs to. So it belongs to one of its own, which serves
// nothing: the goodbye has to come while the real one still answers.
func (s *server) configureHTTP2() error {
	h2 := &http2.Server{}
	s.h2Shutdown = &http.Server{IdleTimeout: s.mainServer.IdleTimeout}
	if err := http2.ConfigureServer(s.h2Shutdown, h2); err != nil {
		return fmt.Errorf("set up HTTP/2: %w", err)
	}
	s.mainServer.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		http2.NextProtoTLS: func(base *http.Server, c *tls.Conn, next http.Handler) {
			opts := &http2.ServeConnOpts{BaseConfig: base, Handler: next}
			if b, ok := next.(interface{ BaseContext() context.Context }); ok {
				opts.Context = b.BaseContext() // with what is known of the connection
			}
			limited := s.limits.frames.FrameConn(c)
			defer s.connTracker.trackHTTP2(c, limited)()
			h2.ServeConn(limited, opts)
		},
	}
	return nil
}
