package main

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"inbox/inbox"
	"inbox/internal/netconn"

	"github.com/pires/go-proxyproto"
)

// connInfo is what is known of a connection, so that its requests need not work
// it out again.
type connInfo struct {
	raw     syscall.RawConn // nil when the kernel cannot be asked
	counted counted         // nil for a connection that no listener counts

	once    sync.Once // by the first request: with -proxy-protocol the address is known only then
	isProxy bool      // it speaks for others
	addr    netip.Addr
	payer   inbox.Payer

	lastOwner atomic.Pointer[ownerSeen] // who was remembered last
}

// counted is a connection that a [ratelimit.Listener] counts.
type counted interface{ DelayRelease(time.Duration) }

// ownerSeen is a client that gave the right password of a name.
type ownerSeen struct {
	name string
	addr netip.Addr
	at   time.Time
}

type connInfoKey struct{}

// withConnInfo is for http.Server.ConnContext.
func withConnInfo(ctx context.Context, c net.Conn) context.Context {
	p := &connInfo{raw: rawConn(c)}
	p.counted, _ = netconn.Find[counted](c)
	return context.WithValue(ctx, connInfoKey{}, p)
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

// rawConn finds the socket under TLS.
func rawConn(c net.Conn) syscall.RawConn {
	s, ok := netconn.Find[syscall.Conn](c)
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
	p, ok := r.Context().Value(connInfoKey{}).(*connInfo)
	if !ok || p.raw == nil {
		return true
	}
	open := false
	// Control and not Read: net/http has a Read of its own waiting on the
	// socket, and another would queue behind it. An error: already closed.
	err := p.raw.Control(func(fd uintptr) { open = socketAlive(fd) })
	return err == nil && open
}

// proxyConn is a connection with a PROXY header that can be unwrapped as the others are.
type proxyConn struct{ *proxyproto.Conn }

// NetConn returns the connection underneath.
func (c proxyConn) NetConn() net.Conn { return c.Raw() }

// proxyListener accepts connections with a PROXY header.
type proxyListener struct{ *proxyproto.Listener }

func (l proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if p, ok := c.(*proxyproto.Conn); ok {
		return proxyConn{p}, err
	}
	return c, err
}
