//go:build !go1.27 || http2legacy

package conn

import "net/http"

// baseConfig returns the BaseConfig of a connection. The server of x/net/http2 takes most of
// its configuration from there.
func baseConfig(base *http.Server) *http.Server { return base }
