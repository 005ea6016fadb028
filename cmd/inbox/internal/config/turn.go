package config

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"inbox/cmd/inbox/internal/nearest"
	"inbox/inbox/ice"
	"inbox/tlsmgr/acme"
)

const (
	maxTURNRate  = 1_000_000_000_000         // bit/s
	maxTURNMonth = 1_000_000_000_000_000_000 // bytes
)

// noCertificate is why TURN over TLS is not offered if adding a name to -domain would help.
const noCertificate = "no certificate has the name of -turn"

// resolveTURN resolves the options of the relay. It needs the domains, the proxies and the
// store.
func (r *resolver) resolveTURN() error {
	bind := Address{"turn-bind", r.o.turnBind, r.o.from["turn-bind"]}
	if err := r.checkAddress(bind); err != nil {
		return err
	}
	host, isIP, err := r.turnHost()
	if err != nil {
		return err
	}
	if r.c.NoTURN = r.whyNoTURN(); r.c.NoTURN != "" {
		return nil
	}
	if r.c.Store != nil && r.c.Store.Key == nil {
		return r.o.optionError("turn", errors.New("requires -store-key-file with a store: the servers derive "+
			"the secret of TURN credentials from it"))
	}
	r.c.TURN = &TURN{
		Host: host, Relay: r.c.Store == nil || r.isDomain(host),
		Bind: bind, RateBits: r.o.turnRate, MonthBytes: r.o.turnMonth,
	}
	hasName := host == "" || len(r.c.Domains) == 0 || r.isDomain(host) || r.c.Store != nil
	r.c.TURN.NoTLS, r.c.TURN.NeedsName = r.whyNoTLS(isIP, hasName)
	if r.c.TURN.NoTLS == noCertificate {
		r.c.Warnings = append(r.c.Warnings, Warning{"TURN over TLS is not offered: no certificate has the name of the relay",
			"-turn", r.o.from["turn"], "add the name to -domain"})
	}
	return nil
}

// whyNoTURN returns why the relay is off, or "".
func (r *resolver) whyNoTURN() string {
	switch {
	case r.o.turn == "off":
		return "-turn off"
	case r.o.turn != "auto":
		return ""
	case !r.o.https:
		return "-https=false; -turn NAME turns it on"
	case r.c.Store != nil:
		return "-store; -turn NAME makes one server the relay of all"
	}
	return ""
}

// whyNoTLS returns why TURN over TLS is not offered, or "". IsIP and hasName describe -turn: an
// IP address, and a name that the certificate can have.
func (r *resolver) whyNoTLS(isIP, hasName bool) (why string, needsName bool) {
	isAddr := func(name string) bool { _, err := netip.ParseAddr(name); return err == nil }
	noDomain := r.o.turn == "auto" && len(r.c.Domains) > 0 && !slices.ContainsFunc(r.c.Domains, func(name string) bool { return !isAddr(name) })
	switch {
	case !r.o.https:
		return "this server does not terminate TLS (-https=false)", false
	case len(r.c.TrustedProxies) > 0 && !r.c.ProxyProtocol: // with it, a proxy passes TLS on unopened
		return "an HTTP proxy cannot pass it (-trusted-proxies)", false
	case r.c.Bind.isUnix() && !r.c.ProxyProtocol:
		return "a proxy of a Unix socket cannot pass it (-bind)", false
	case isIP:
		return "browsers do not use it with an IP address (-turn)", true
	case noDomain:
		return "browsers do not use it with an IP address (-domain)", true
	case !hasName:
		return noCertificate, false
	}
	return "", false
}

// turnHost returns the host that -turn names in the form of URLs, or "".
func (r *resolver) turnHost() (host string, isIP bool, err error) {
	name := r.o.turn
	if name == "auto" || name == "off" {
		return "", false, nil
	}
	names, err := acme.Names([]string{name})
	if err == nil {
		if _, err := netip.ParseAddr(names[0]); err == nil {
			return names[0], true, nil
		}
	}
	if err == nil {
		_, err = ice.Parse("stun:" + names[0]) // as browsers do
	}
	wrong := hostNameMistake(name, "turn-bind")
	switch {
	case wrong != "":
	case err != nil || !strings.Contains(names[0], "."):
		wrong = "must be auto, off, an IP address, or a host name with a dot" + didYouMean(nearest.Of(strings.ToLower(name), "auto", "off"))
	default:
		return names[0], false, nil
	}
	return "", false, r.o.optionError("turn", errors.New(wrong))
}

// isDomain reports whether a host in canonical form is one of -domain.
func (r *resolver) isDomain(host string) bool {
	names, err := acme.Names(r.c.Domains)
	return err == nil && slices.Contains(names, host)
}
