package websocket

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// maxFieldBytes bounds what [Detach] keeps of a field.
const maxFieldBytes = 512

// Detach returns a request that can be kept as long as the connection is open: it refers to nothing
// of r that takes memory. It has the fields with these names, in canonical form, which tell the
// client of a proxy, the address and the values of the context of the connection, and u as its URL.
// Requests can share u. Without any of the fields, its Header is nil.
func Detach(r *http.Request, fields []string, u *url.URL) *http.Request {
	var header http.Header
	for _, name := range fields {
		if value := strings.Join(r.Header[name], ","); value != "" {
			if header == nil {
				header = http.Header{}
			}
			// A proxy appends the client to what the client has sent.
			header[name] = []string{strings.Clone(value[max(0, len(value)-maxFieldBytes):])}
		}
	}
	detached := &http.Request{
		// Those of r are parts of its first line, which is as long as the client wants.
		Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		URL: u, Host: strings.Clone(r.Host), RemoteAddr: r.RemoteAddr, Header: header,
	}
	ctx, ok := r.Context().Value(connContextKey{}).(context.Context)
	if !ok {
		ctx = context.WithoutCancel(r.Context())
	}
	return detached.WithContext(ctx)
}

type connContextKey struct{}

// ConnContext returns ctx with what lets [Detach] keep it instead of the context of a request, which
// takes memory. It belongs at the end of http.Server.ConnContext.
func ConnContext(ctx context.Context) context.Context {
	return context.WithValue(ctx, connContextKey{}, ctx)
}
