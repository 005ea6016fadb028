package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"inbox/inbox"
)

// connInfo is what is known of a connection, so that its requests need not work
// it out again.
type connInfo struct {
	counted *lazyConn // nil when nobody counts it

	once    sync.Once // by the first request: with -proxy-protocol the address is known only then
	isProxy bool      // it speaks for others
	addr    netip.Addr
	payer   inbox.Payer

	lastOwner atomic.Pointer[ownerSeen] // who was remembered last
}

// ownerSeen is a client that gave the right password of a name.
type ownerSeen struct {
	name string
	addr netip.Addr
	at   time.Time
}

type connInfoKey struct{}

// withConnInfo is for http.Server.ConnContext.
func withConnInfo(ctx context.Context, c net.Conn) context.Context {
	p := &connInfo{}
	if t, ok := c.(*tls.Conn); ok {
		p.counted, _ = t.NetConn().(*lazyConn)
	}
	return context.WithValue(inbox.ConnContext(ctx, c), connInfoKey{}, p)
}

// delayReleaseHTTP2 counts a connection of HTTP/2 for so long after it is closed:
// with streams open, net/http keeps all of its memory until it would have been
// idle for too long, though the client is gone. Else one that comes and goes
// would take any amount.
func delayReleaseHTTP2(d time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor >= 2 {
			if p, ok := r.Context().Value(connInfoKey{}).(*connInfo); ok && p.counted != nil {
				p.counted.DelayRelease(d)
			}
		}
		next.ServeHTTP(w, r)
	})
}
