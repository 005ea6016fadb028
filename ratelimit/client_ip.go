package ratelimit

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// ClientIP says which address a request comes from. The zero value believes no
// proxy.
type ClientIP struct {
	// Trusted are the proxies that may say whom they ask for. A peer on a Unix
	// socket is always trusted.
	Trusted []netip.Prefix
	// Header is the field they say it in: "X-Forwarded-For" (when empty),
	// "Forwarded" (RFC 7239), or any with one address or a list of them.
	Header string
	// Logger gets one warning when a private address that is not trusted sends
	// the field: most likely the operator's own proxy. Nil discards it.
	Logger *slog.Logger

	warned sync.Once
}

// Addr returns the client's address: the peer's, or, when that is trusted, the
// right-most entry of the field that is not trusted itself, since everything
// left of it is what a stranger wrote. It is the nearest trusted address
// when an entry cannot be parsed, and invalid for a Unix socket that says nothing.
func (c *ClientIP) Addr(r *http.Request) netip.Addr {
	peer := ParseAddr(r.RemoteAddr)
	if !c.TrustsPeer(r.RemoteAddr) {
		c.warnOnce(peer, r)
		return peer
	}
	field := strings.Join(r.Header.Values(c.header()), ",")
	addr := peer
	for field != "" {
		var entry string
		if i := strings.LastIndexByte(field, ','); i >= 0 {
			field, entry = field[:i], field[i+1:]
		} else {
			field, entry = "", field
		}
		next := c.parseEntry(entry)
		if !next.IsValid() {
			return addr
		}
		if addr = next; !c.trusts(addr) {
			return addr
		}
	}
	return addr
}

// TrustsPeer reports whether the peer of a connection is a trusted proxy.
func (c *ClientIP) TrustsPeer(remoteAddr string) bool {
	addr := ParseAddr(remoteAddr)
	if !addr.IsValid() {
		return isUnix(remoteAddr)
	}
	return c.trusts(addr)
}

// isUnix knows the peer of a Unix socket as net prints it: no name, or a path.
func isUnix(remoteAddr string) bool {
	return remoteAddr == "" || remoteAddr == "@" || strings.HasPrefix(remoteAddr, "/")
}

func (c *ClientIP) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(c.Trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func (c *ClientIP) header() string {
	if c.Header == "" {
		return "X-Forwarded-For"
	}
	return c.Header
}

func (c *ClientIP) warnOnce(peer netip.Addr, r *http.Request) {
	if c.Logger == nil || !peer.IsPrivate() && !peer.IsLoopback() || r.Header.Get(c.header()) == "" {
		return
	}
	c.warned.Do(func() {
		c.Logger.Warn("a private address sends " + c.header() + " but is not trusted; if it is your proxy, name it with -trusted-proxies, or all its clients count as one")
	})
}

// parseEntry reads one entry of the field. In Forwarded that is a list of
// pairs of which for= counts.
func (c *ClientIP) parseEntry(entry string) netip.Addr {
	if !strings.EqualFold(c.header(), "Forwarded") {
		return ParseAddr(strings.TrimSpace(entry))
	}
	for pair := range strings.SplitSeq(entry, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(name, "for") {
			return ParseAddr(strings.Trim(value, `"`))
		}
	}
	return netip.Addr{}
}

// ParseAddr reads an address with or without a port, IPv6 with or without
// brackets, and returns it without zone and unmapped. It is invalid for
// anything else.
func ParseAddr(s string) netip.Addr {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().WithZone("").Unmap()
	}
	s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return addr.WithZone("").Unmap()
}

// connAddr is the peer of a connection, invalid for a Unix socket.
func connAddr(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().WithZone("").Unmap()
	}
	return netip.Addr{}
}
