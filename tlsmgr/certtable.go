package tlsmgr

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// snapshot is all that a handshake reads. It is never changed.
type snapshot struct {
	acme         map[string]*tls.Certificate
	static       map[string]*tls.Certificate
	hstsEligible map[string]bool // for how long valid ones have been served is proof enough
}

// certTable decides which certificate a name is served with: that of the authority
// while it is valid; else that of the files while it is; else the one that ends
// last, for a warning in the browser is more than no connection; else none.
type certTable struct {
	names   []string
	current atomic.Pointer[snapshot]
	mu      sync.Mutex // one change at a time
}

func newCertTable(names []string) *certTable {
	c := &certTable{names: names}
	c.current.Store(&snapshot{acme: map[string]*tls.Certificate{}, static: map[string]*tls.Certificate{}, hstsEligible: map[string]bool{}})
	return c
}

// change replaces the snapshot by a changed copy.
func (c *certTable) change(do func(*snapshot)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.current.Load()
	fresh := &snapshot{maps.Clone(old.acme), maps.Clone(old.static), maps.Clone(old.hstsEligible)}
	do(fresh)
	c.current.Store(fresh)
}

func (c *certTable) setACME(name string, cert *tls.Certificate) {
	c.change(func(snap *snapshot) { snap.acme[name] = cert })
}

// setStatic takes the files' certificate for each name that it covers. The
// others keep what the files held for them before: it is still good, or at least
// better than none.
func (c *certTable) setStatic(cert *tls.Certificate) {
	c.change(func(snap *snapshot) {
		for _, name := range c.names {
			if covers(cert.Leaf, name) {
				snap.static[name] = cert
			}
		}
	})
}

func (c *certTable) setHSTSEligible(name string, eligible bool) {
	if c.current.Load().hstsEligible[name] != eligible {
		c.change(func(snap *snapshot) { snap.hstsEligible[name] = eligible })
	}
}

// pick returns the certificate for a name, and where it comes from.
func (c *certTable) pick(name string, now time.Time) (cert *tls.Certificate, source string) {
	snap := c.current.Load()
	acme, static := snap.acme[name], snap.static[name]
	switch {
	case isValidAt(acme, now):
		return acme, "acme"
	case isValidAt(static, now):
		return static, "file"
	case acme != nil && (static == nil || acme.Leaf.NotAfter.After(static.Leaf.NotAfter)):
		return acme, "acme"
	case static != nil:
		return static, "file"
	}
	return nil, ""
}

func isValidAt(c *tls.Certificate, now time.Time) bool {
	return c != nil && !now.Before(c.Leaf.NotBefore) && !now.After(c.Leaf.NotAfter)
}

// requestedName is the configured name that a client asks for, or "".
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

// nameForAddr is for clients that send no name, as those do which were given an
// address: the local address, or the only address there is, for behind a
// translation of addresses the local one is another.
func (c *certTable) nameForAddr(conn net.Conn) string {
	if local := localAddr(conn); slices.Contains(c.names, local) {
		return local
	}
	onlyIP := ""
	for _, name := range c.names {
		if isIP(name) && onlyIP != "" {
			return ""
		} else if isIP(name) {
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

// covers tells whether a certificate is for a name: by its alternative names,
// with wildcards, and if it has none by its common name.
func covers(leaf *x509.Certificate, name string) bool {
	if len(leaf.DNSNames) > 0 || len(leaf.IPAddresses) > 0 {
		return leaf.VerifyHostname(name) == nil
	}
	common := strings.ToLower(leaf.Subject.CommonName)
	if rest, wild := strings.CutPrefix(common, "*."); wild {
		_, parent, found := strings.Cut(name, ".")
		return found && parent == rest && !isIP(name)
	}
	return common == name
}
