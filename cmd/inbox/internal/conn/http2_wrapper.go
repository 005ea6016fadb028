//go:build go1.27 && !http2legacy

package conn

import "net/http"

// baseConfig returns the BaseConfig of a connection: none. From Go 1.27 on, x/net/http2 serves
// with the HTTP/2 server of net/http. With a BaseConfig it makes one http.Server per
// connection, whose Shutdown nothing can call, and no connection would receive GOAWAY.
func baseConfig(*http.Server) *http.Server { return nil }
