// Package conn has what the server knows and does per connection: the TLS handshake and the
// hand-over to HTTP/1.1 or HTTP/2 ([Server]), information for the requests of a connection
// ([Info]), the deadlines of reads and writes ([LazyListener]), and the PROXY header
// ([ProxyListener]).
//
// HTTP/2 is served with golang.org/x/net/http2, which is deprecated in favor of net/http,
// because frames are limited between TLS and HTTP/2, and net/http does not limit PING, SETTINGS
// and similar frames itself. From Go 1.27 on, net/http serves HTTP/2 on a wrapped connection,
// too, and can replace it.
package conn

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"inbox/inbox"
	"inbox/internal/netconn"
	"inbox/ratelimit"
)

// Info is what is known of a connection, so that its requests need not determine it again.
type Info struct {
	counted counted // nil if no listener counts the connection

	once    sync.Once // by the first request: with a PROXY header, the address is unknown earlier
	isProxy bool      // a trusted proxy, whose requests come from many clients
	client  *ratelimit.Client
	payer   inbox.Payer

	lastOwner atomic.Pointer[ownerSeen]
}

// counted is a connection that a [ratelimit.Listener] counts.
type counted interface{ DelayRelease(time.Duration) }

type infoKey struct{}

// WithInfo adds the connection's [Info] to its context, and what [inbox.Alive] needs, as
// http.Server.ConnContext.
func WithInfo(ctx context.Context, c net.Conn) context.Context {
	info := new(Info)
	info.counted, _ = netconn.Find[counted](c)
	return inbox.ConnContext(context.WithValue(ctx, infoKey{}, info), c)
}

// infoOf returns the information of a request's connection, or nil if it has none.
func infoOf(r *http.Request) *Info {
	info, _ := r.Context().Value(infoKey{}).(*Info)
	return info
}

// DelayReleaseHTTP2 counts an HTTP/2 connection for d after it is closed. When streams are
// open, net/http keeps the connection's memory until its idle timeout although the client
// is gone. Otherwise a client that reconnects repeatedly would use unlimited memory.
func DelayReleaseHTTP2(d time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor >= 2 {
			if info := infoOf(r); info != nil && info.counted != nil {
				info.counted.DelayRelease(d)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// ownerSeen is a client that sent the password of a name.
type ownerSeen struct {
	name string
	addr netip.Addr
	at   time.Duration // since the resolver was created
}

// is reports whether the client was seen as the owner of the name after a time.
func (o *ownerSeen) is(name string, addr netip.Addr, after time.Duration) bool {
	return o.name == name && o.addr == addr && o.at > after
}
