package config

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"inbox/inbox"
	"inbox/tlsmgr/acme"
)

const (
	maxTURNRate  = 1_000_000     // Mbit/s
	maxTURNMonth = 1_000_000_000 // GB
)

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
	if off := r.o.turn == "off" || r.o.turn == "auto" && (!r.o.https || r.c.Store != nil); off {
		return nil
	}
	if r.c.Store != nil && r.c.Store.Key == nil {
		return r.o.optionError("turn", errors.New("requires -store-key-file with a store: the servers derive "+
			"the secret of TURN credentials from it"))
	}
	hasName := host == "" || len(r.c.Domains) == 0 || r.isDomain(host)
	r.c.TURN = &TURN{
		Host:    host,
		Relay:   r.c.Store == nil || r.isDomain(host),
		OverTLS: r.o.https && !isIP && !r.isBehindProxy() && (hasName || r.c.Store != nil),
		Bind:    bind, RateBits: r.o.turnRate * 1_000_000, MonthBytes: r.o.turnMonth * 1_000_000_000,
	}
	if !hasName && r.c.Store == nil && !isIP {
		r.c.Warnings = append(r.c.Warnings, Warning{"TURN over TLS is not offered: no certificate has the name of the relay",
			"-turn", r.o.from["turn"], "add the name to -domain"})
	}
	return nil
}

// isBehindProxy reports whether clients reach the main listener through a proxy, which does not
// know TURN.
func (r *resolver) isBehindProxy() bool { return len(r.c.TrustedProxies) > 0 || r.c.Bind.isUnix() }

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
		_, err = inbox.ParseICEServers("stun:" + names[0]) // as browsers do
	}
	wrong := hostNameMistake(name, "turn-bind")
	switch {
	case wrong != "":
	case err != nil || !strings.Contains(names[0], "."):
		wrong = "must be auto, off, an IP address, or a host name with a dot"
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
