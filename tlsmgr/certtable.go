package tlsmgr

import (
	"crypto/tls"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/hosts"
)

// snapshot is the immutable data that a handshake reads.
type snapshot struct {
	acme   map[string]*tls.Certificate
	static map[string]*tls.Certificate
}

// certTable selects the certificate for a name: the ACME certificate while it is
// valid, else the file certificate while it is valid, else whichever of the two
// expires last. A browser warning is better than a failed handshake.
// It is safe for concurrent use.
type certTable struct {
	names   []string
	current atomic.Pointer[snapshot]
	mu      sync.Mutex // serializes change
}

func newCertTable(names []string) *certTable {
	c := &certTable{names: names}
	c.current.Store(&snapshot{map[string]*tls.Certificate{}, map[string]*tls.Certificate{}})
	return c
}

// change replaces the snapshot with a modified copy.
func (c *certTable) change(do func(*snapshot)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.current.Load()
	fresh := &snapshot{maps.Clone(old.acme), maps.Clone(old.static)}
	do(fresh)
	c.current.Store(fresh)
}

func (c *certTable) setACME(name string, cert *tls.Certificate) {
	c.change(func(snap *snapshot) { snap.acme[name] = cert })
}

// setStatic sets the file certificate for each name that it covers. Other names
// keep their previous file certificate, which is better than none.
func (c *certTable) setStatic(cert *tls.Certificate) {
	c.change(func(snap *snapshot) {
		for _, name := range c.names {
			if certs.Covers(cert.Leaf, name) {
				snap.static[name] = cert
			}
		}
	})
}

// pick returns the certificate for a name and its source, "acme" or "file".
// Without a certificate it returns nil and "".
func (c *certTable) pick(name string, now time.Time) (cert *tls.Certificate, source string) {
	snap := c.current.Load()
	acme, static := snap.acme[name], snap.static[name]
	switch {
	case certs.ValidAt(acme, now):
		return acme, "acme"
	case certs.ValidAt(static, now):
		return static, "file"
	case acme != nil && (static == nil || acme.Leaf.NotAfter.After(static.Leaf.NotAfter)):
		return acme, "acme"
	case static != nil:
		return static, "file"
	}
	return nil, ""
}

// requestedName returns the configured name that a client requests, or "".
func (c *certTable) requestedName(hello *tls.ClientHelloInfo) string {
	if hello.ServerName != "" {
		name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
		if slices.Contains(c.names, name) {
			return name
		}
		return ""
	}
	return c.nameForAddr(hello.Conn)
}

// nameForAddr returns the configured IP address for a client without SNI, as
// browsers connect to an address: the local address of the connection or, since
// NAT hides the public address, the only configured IP address.
func (c *certTable) nameForAddr(conn net.Conn) string {
	if local := localAddr(conn); slices.Contains(c.names, local) {
		return local
	}
	onlyIP := ""
	for _, name := range c.names {
		if hosts.IsIP(name) && onlyIP != "" {
			return ""
		} else if hosts.IsIP(name) {
			onlyIP = name
		}
	}
	return onlyIP
}

func localAddr(conn net.Conn) string {
	if conn == nil {
		return ""
	}
	ap, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return ""
	}
	return ap.Addr().Unmap().WithZone("").String()
}
