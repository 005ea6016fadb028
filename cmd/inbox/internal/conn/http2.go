package conn

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"

	"inbox/ratelimit"

	"golang.org/x/net/http2"
)

//lint:file-ignore SA1019 net/http, which x/net recommends instead, does not serve HTTP/2 on a wrapped connection

// ConfigureHTTP2 makes server serve HTTP/2 on connections that frames throttles and tracker
// tracks. The server's IdleTimeout must be set.
//
// The HTTP/2 server sends GOAWAY to all connections when the http.Server that it is
// configured for shuts down. Clients must receive GOAWAY while server still answers.
// ConfigureHTTP2 therefore configures a separate http.Server that serves nothing, and returns
// it: its Shutdown sends GOAWAY and returns at once.
func ConfigureHTTP2(server *http.Server, frames *ratelimit.FrameLimiter, tracker *Tracker) (goAway *http.Server, err error) {
	h2 := &http2.Server{}
	goAway = &http.Server{IdleTimeout: server.IdleTimeout}
	if err := http2.ConfigureServer(goAway, h2); err != nil {
		return nil, fmt.Errorf("configure HTTP/2: %w", err)
	}
	server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		http2.NextProtoTLS: func(base *http.Server, c *tls.Conn, next http.Handler) {
			opts := &http2.ServeConnOpts{BaseConfig: base, Handler: next}
			if b, ok := next.(interface{ BaseContext() context.Context }); ok {
				opts.Context = b.BaseContext() // with the connection's Info
			}
			limited := frames.FrameConn(c)
			defer tracker.trackHTTP2(c, limited)()
			h2.ServeConn(limited, opts)
		},
	}
	return goAway, nil
}
