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
	acme   map[string]*tls.Certificate
	manual map[string]*tls.Certificate
	proved map[string]bool // for how long valid ones have been served is proof enough
}

// chain decides which certificate a name is served with: that of the authority
// while it is valid; else that of the files while it is; else the one that ends
// last, for a warning in the browser is more than no connection; else none.
type chain struct {
	names   []string
	current atomic.Pointer[snapshot]
	mu      sync.Mutex // one change at a time
}

func newChain(names []string) *chain {
	c := &chain{names: names}
	c.current.Store(&snapshot{acme: map[string]*tls.Certificate{}, manual: map[string]*tls.Certificate{}, proved: map[string]bool{}})
	return c
}

// change replaces the snapshot by a changed copy.
func (c *chain) change(do func(*snapshot)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.current.Load()
	fresh := &snapshot{maps.Clone(old.acme), maps.Clone(old.manual), maps.Clone(old.proved)}
	do(fresh)
	c.current.Store(fresh)
}

func (c *chain) setACME(name string, cert *tls.Certificate) {
	c.change(func(s *snapshot) { s.acme[name] = cert })
}

// setManual takes the files' certificate for each name that it covers. The
// others keep what the files held for them before: it is still good, or at least
// better than none.
func (c *chain) setManual(cert *tls.Certificate) {
	c.change(func(s *snapshot) {
		for _, name := range c.names {
			if covers(cert.Leaf, name) {
				s.manual[name] = cert
			}
		}
	})
}

func (c *chain) setProved(name string, proved bool) {
	if c.current.Load().proved[name] != proved {
		c.change(func(s *snapshot) { s.proved[name] = proved })
	}
}

// pick returns the certificate for a name, and where it comes from.
func (c *chain) pick(name string, now time.Time) (cert *tls.Certificate, source string) {
	s := c.current.Load()
	acme, manual := s.acme[name], s.manual[name]
	switch {
	case inForce(acme, now):
		return acme, "acme"
	case inForce(manual, now):
		return manual, "file"
	case acme != nil && (manual == nil || acme.Leaf.NotAfter.After(manual.Leaf.NotAfter)):
		return acme, "acme"
	case manual != nil:
		return manual, "file"
	}
	return nil, ""
}

func inForce(c *tls.Certificate, now time.Time) bool {
	return c != nil && !now.Before(c.Leaf.NotBefore) && !now.After(c.Leaf.NotAfter)
}

// named is the configured name that a client asks for, or "".
func (c *chain) named(hello *tls.ClientHelloInfo) string {
	if hello.ServerName != "" {
		name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
		if slices.Contains(c.names, name) {
			return name
		}
		return ""
	}
	return c.unnamed(hello.Conn)
}

// unnamed is for clients that send no name, as those do which were given an
// address: the local address, or the only address there is, for behind a
// translation of addresses the local one is another.
func (c *chain) unnamed(conn net.Conn) string {
	if local := localAddr(conn); slices.Contains(c.names, local) {
		return local
	}
	only := ""
	for _, name := range c.names {
		if isIP(name) && only != "" {
			return ""
		} else if isIP(name) {
			only = name
		}
	}
	return only
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
