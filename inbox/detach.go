package inbox

import (
	"context"
	"net/http"
	"strings"
)

// maxFieldBytes bounds what is kept of each of Config.ClientFields.
const maxFieldBytes = 512

// Detach returns a request that stands for the client of r after its connection was hijacked: with
// its address and the fields that tell the client of a proxy, in canonical form. It has no URL, and
// keeps nothing of r in memory. Its context does not end with r; with [ConnContext] it is that of
// the connection, without the values that the handlers of r have added.
func Detach(r *http.Request, fields []string) *http.Request {
	detached := &http.Request{
		Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: r.RemoteAddr,
	}
	for _, name := range fields {
		if value := strings.Join(r.Header[name], ","); value != "" {
			if detached.Header == nil {
				detached.Header = make(http.Header, len(fields))
			}
			// A proxy appends the client to what the client has sent.
			detached.Header[name] = []string{strings.Clone(value[max(0, len(value)-maxFieldBytes):])}
		}
	}
	if state := stateOf(r); state != nil {
		return detached.WithContext(state.ctx)
	}
	return detached.WithContext(context.WithoutCancel(r.Context()))
}
