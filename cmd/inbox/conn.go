package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"inbox/inbox"
)

// peer is what is known of a connection, so that its requests need not work
// it out again.
type peer struct {
	raw   syscall.RawConn // nil when the kernel cannot be asked
	place *lazyConn       // nil when nobody counts it

	once  sync.Once // by the first request: with -proxy-protocol the address is known only then
	proxy bool      // it speaks for others
	addr  netip.Addr
	payer inbox.Payer

	owner atomic.Pointer[ownerSeen] // who was remembered last
}

// ownerSeen is a client that gave the right password of a name.
type ownerSeen struct {
	name string
	addr netip.Addr
	at   time.Time
}

type peerKey struct{}

// withPeer is for http.Server.ConnContext.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	p := &peer{raw: rawConn(c)}
	if t, ok := c.(*tls.Conn); ok {
		p.place, _ = t.NetConn().(*lazyConn)
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// lingerHTTP2 counts a connection of HTTP/2 for so long after it is closed:
// with streams open, net/http keeps all of its memory until it would have been
// idle for too long, though the client is gone. Else one that comes and goes
// would take any amount.
func lingerHTTP2(d time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor >= 2 {
			if p, ok := r.Context().Value(peerKey{}).(*peer); ok && p.place != nil {
				p.place.DelayRelease(d)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// rawConn finds the socket under TLS.
func rawConn(c net.Conn) syscall.RawConn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// alive is for inbox.Config: it asks the kernel, since the request's context
// hears of a closed connection only some time after the kernel did.
func alive(r *http.Request) bool {
	p, ok := r.Context().Value(peerKey{}).(*peer)
	if !ok || p.raw == nil {
		return true
	}
	here := false
	// Control and not Read: net/http has a Read of its own waiting on the
	// socket, and another would queue behind it. An error: already closed.
	err := p.raw.Control(func(fd uintptr) { here = socketAlive(fd) })
	return err == nil && here
}
