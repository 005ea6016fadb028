package ratelimit

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// ClientIP resolves the address that a request comes from, also behind proxies. The zero
// value trusts no proxy. All methods can be called concurrently; fields must not change
// after the first call.
type ClientIP struct {
	// Trusted lists the proxies whose client-address header counts. A peer on a Unix
	// socket is always trusted.
	Trusted []netip.Prefix
	// Header is the field in which proxies send the client's address: X-Forwarded-For
	// (when empty), Forwarded (RFC 7239), or any field with an address or a
	// comma-separated list of addresses.
	Header string
	// OnUntrusted, when not nil, is called once, when a private or loopback address
	// that is not trusted sends the header: probably a proxy that Trusted lacks, whose
	// clients all count as one.
	OnUntrusted func(header string)

	untrusted sync.Once
}

// Addr returns the client's address. That is the peer's address unless the peer is
// trusted; then it is the right-most entry of the header that is not trusted, because a
// client controls everything to the left of it. When an entry cannot be parsed, Addr
// returns the nearest trusted address. The result is invalid for a Unix socket without
// the header.
func (c *ClientIP) Addr(r *http.Request) netip.Addr {
	peer := ParseAddr(r.RemoteAddr)
	if !c.TrustsPeer(r.RemoteAddr) {
		c.checkUntrusted(peer, r)
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

// TrustsPeer reports whether the peer of a connection is a trusted proxy, given the peer's
// address as net prints it.
func (c *ClientIP) TrustsPeer(remoteAddr string) bool {
	addr := ParseAddr(remoteAddr)
	if !addr.IsValid() {
		return isUnix(remoteAddr)
	}
	return c.trusts(addr)
}

// isUnix recognizes the peer of a Unix socket as net prints it: unnamed, or a path.
func isUnix(remoteAddr string) bool {
	return remoteAddr == "" || remoteAddr == "@" || strings.HasPrefix(remoteAddr, "/")
}

func (c *ClientIP) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(c.Trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Field returns the name of the field in its canonical form.
func (c *ClientIP) Field() string { return http.CanonicalHeaderKey(c.header()) }

func (c *ClientIP) header() string {
	if c.Header == "" {
		return "X-Forwarded-For"
	}
	return c.Header
}

func (c *ClientIP) checkUntrusted(peer netip.Addr, r *http.Request) {
	if c.OnUntrusted == nil || !peer.IsPrivate() && !peer.IsLoopback() || r.Header.Get(c.header()) == "" {
		return
	}
	c.untrusted.Do(func() { c.OnUntrusted(c.header()) })
}

// parseEntry parses one entry of the header. An entry of Forwarded is a list of pairs, of
// which for= has the address.
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

// ParseAddr parses an address with or without a port, IPv6 with or without brackets. The
// result has no zone and is not IPv4-mapped. It is invalid for any other text.
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

// connAddr returns the peer's address, which is invalid for a Unix socket.
func connAddr(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().WithZone("").Unmap()
	}
	return netip.Addr{}
}
