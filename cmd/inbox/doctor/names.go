package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"inbox/tlsmgr"
)

// lookupTimeout is for all that is asked of DNS about one name.
const lookupTimeout = 15 * time.Second

// checkNames finds out whether the CA will reach this machine by its names.
func (e *examination) checkNames(ctx context.Context) []Finding {
	local, err := e.localAddrs()
	if err != nil {
		local = nil // then every address is somebody else's, with a warning below
	}
	found := forEach(e.Domains, func(name string) []Finding {
		if addr, err := netip.ParseAddr(name); err == nil {
			return e.checkIPName(addr.Unmap(), local)
		}
		return e.checkName(ctx, name, local)
	})
	if err != nil {
		found = append(found, warning("", fmt.Sprintf("The addresses of this machine could not be listed: %v.", err),
			"Compare the addresses above with those of this machine yourself."))
	}
	return found
}

func (e *examination) checkName(ctx context.Context, name string, local []netip.Addr) []Finding {
	if strings.HasPrefix(name, "*.") {
		return []Finding{failure(name, "A wildcard needs a challenge in DNS, which inbox does not speak.",
			"Name each host with -domain, or give a wildcard certificate with -server-cert and -server-key instead.")}
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := e.resolver.LookupNetIP(ctx, "ip", name)
	var missing *net.DNSError
	switch {
	case errors.As(err, &missing) && missing.IsNotFound:
		return []Finding{failure(name, "It has no address in DNS.", "Add an A record (IPv4) or an AAAA record (IPv6) with the address of this machine"+
			suggestAddrs(local)+" where the domain is registered. It can take some minutes to be seen.")}
	case err != nil:
		return []Finding{warning(name, fmt.Sprintf("It could not be looked up: %v.", err),
			"See whether /etc/resolv.conf names a DNS server that answers, and run the doctor again.")}
	}
	return e.evaluateAddrs(name, addrs, local)
}

// evaluateAddrs compares what DNS says with this machine. Order matters: the first
// thing wrong is the one to mend.
func (e *examination) evaluateAddrs(name string, addrs, local []netip.Addr) []Finding {
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	private := slices.DeleteFunc(slices.Clone(addrs), isRoutable)
	elsewhere := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return slices.Contains(local, a) })
	text := "It leads to " + joinAddrs(addrs)
	switch {
	case len(private) == len(addrs) && e.letsEncrypt():
		return []Finding{failure(name, fmt.Sprintf("%s; from the internet nobody reaches %s.", text, joinAddrs(private)),
			"Put this machine's public address into DNS, or use a CA of your own with -acme-ca.")}
	case len(elsewhere) == len(addrs):
		return []Finding{warning(name, fmt.Sprintf("%s; no interface of this machine has such an address.", text),
			"That is right behind NAT or a load balancer, if it forwards ports 80 and 443 to here; else correct the records in DNS.")}
	case len(elsewhere) > 0:
		return []Finding{warning(name, fmt.Sprintf("%s; %s is on no interface of this machine.", text, joinAddrs(elsewhere)),
			"A CA may ask at any of them, and prefers IPv6: remove the records that do not lead here.")}
	case slices.ContainsFunc(addrs, netip.Addr.Is6) && e.onlyIPv4():
		return []Finding{warning(name, fmt.Sprintf("%s, but -bind %s listens on IPv4 only.", text, e.Bind),
			"Listen on all addresses, as -bind :443 does, or remove the AAAA record.")}
	}
	return []Finding{good(name, text+", on this machine.")}
}

// checkIPName is for an IP address that a certificate is wanted for.
func (e *examination) checkIPName(addr netip.Addr, local []netip.Addr) []Finding {
	name := addr.String()
	switch {
	case e.Engine == "autocert":
		return []Finding{failure(name, "The engine autocert has no certificates for IP addresses.",
			"Use -acme certmagic, or a name instead of the address.")}
	case e.letsEncrypt() && !isRoutable(addr):
		return []Finding{failure(name, "From the internet nobody reaches this address, so Let's Encrypt gives no certificate for it.",
			"Use the public address, or a CA of your own with -acme-ca.")}
	case !slices.Contains(local, addr):
		return []Finding{warning(name, "The address is on no interface of this machine.",
			"That is right behind NAT, if it forwards ports 80 and 443 to here; else use an address of this machine.")}
	}
	return []Finding{good(name, "The address is on an interface of this machine.")}
}

// letsEncrypt is whether the only CA is Let's Encrypt, whose servers ask over
// the internet.
func (e *examination) letsEncrypt() bool {
	urls := e.caURLs()
	return !slices.ContainsFunc(urls, func(u string) bool { return !isLetsEncrypt(u) })
}

func isLetsEncrypt(caURL string) bool {
	u, err := url.Parse(caURL)
	return err == nil && strings.HasSuffix(u.Hostname(), ".api.letsencrypt.org")
}

// onlyIPv4 is whether the main listener leaves IPv6 out.
func (e *examination) onlyIPv4() bool {
	host, _, err := net.SplitHostPort(e.Bind)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Is4()
}

// isRoutable is whether the internet routes to an address.
func isRoutable(a netip.Addr) bool {
	return tlsmgr.IsPublicAddr(a)
}

// suggestAddrs names the addresses that belong into DNS.
func suggestAddrs(local []netip.Addr) string {
	local = slices.DeleteFunc(slices.Clone(local), func(a netip.Addr) bool { return !isRoutable(a) })
	if len(local) == 0 {
		return ""
	}
	return " (" + joinAddrs(local) + ")"
}

func joinAddrs(addrs []netip.Addr) string {
	var texts []string
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}
