package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"

	"inbox/ratelimit"

	"golang.org/x/net/http2"
)

//lint:file-ignore SA1019 x/net wants net/http to serve HTTP/2, which takes no connection of ours

// countFrames makes the server count the frames of HTTP/2. net/http has no place
// between TLS and HTTP/2, so its twin in x/net serves the latter.
func countFrames(server *http.Server, pieces *ratelimit.Pieces) error {
	h2 := &http2.Server{}
	if err := http2.ConfigureServer(server, h2); err != nil {
		return fmt.Errorf("set up HTTP/2: %w", err)
	}
	server.TLSNextProto[http2.NextProtoTLS] = func(s *http.Server, c *tls.Conn, next http.Handler) {
		opts := &http2.ServeConnOpts{BaseConfig: s, Handler: next}
		if b, ok := next.(interface{ BaseContext() context.Context }); ok {
			opts.Context = b.BaseContext() // with what is known of the connection
		}
		h2.ServeConn(pieces.Frames(c), opts)
	}
	return nil
}
