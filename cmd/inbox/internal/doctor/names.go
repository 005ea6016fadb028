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

// lookupTimeout bounds all DNS queries for one name.
const lookupTimeout = 15 * time.Second

// checkNames checks whether the names lead the CA to this machine.
func (e *examination) checkNames(ctx context.Context) []Finding {
	local, err := e.localAddrs()
	if err != nil {
		local = nil // no address matches then; the warning below says why
	}
	found := forEach(e.Domains, func(name string) []Finding {
		if addr, err := netip.ParseAddr(name); err == nil {
			return e.checkIPName(addr.Unmap(), local)
		}
		return e.checkName(ctx, name, local)
	})
	if err != nil {
		found = append(found, warning("", fmt.Sprintf("The addresses of this machine could not be listed: %v.", err),
			"Compare the addresses above with those of this machine."))
	}
	return found
}

func (e *examination) checkName(ctx context.Context, name string, local []netip.Addr) []Finding {
	if strings.HasPrefix(name, "*.") {
		return []Finding{failure(name, "Wildcard certificates require the dns-01 challenge, which inbox does not support.",
			"List each host in -domain, or use a wildcard certificate with -server-cert and -server-key.")}
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := e.resolver.LookupNetIP(ctx, "ip", name)
	var missing *net.DNSError
	switch {
	case errors.As(err, &missing) && missing.IsNotFound:
		return []Finding{failure(name, "The name has no address in DNS.", "Add an A record (IPv4) or an AAAA record (IPv6) with the address of this machine"+
			suggestAddrs(local)+" at the domain's DNS provider. The change can take some minutes.")}
	case err != nil:
		return []Finding{warning(name, fmt.Sprintf("The lookup failed: %v.", err),
			"Check that /etc/resolv.conf names a working DNS server, and run the doctor again.")}
	}
	return e.evaluateAddrs(name, addrs, local)
}

// evaluateAddrs compares the addresses in DNS with those of this machine. The
// first problem found is the one to fix first.
func (e *examination) evaluateAddrs(name string, addrs, local []netip.Addr) []Finding {
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	private := slices.DeleteFunc(slices.Clone(addrs), isRoutable)
	elsewhere := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return slices.Contains(local, a) })
	text := "The name resolves to " + joinAddrs(addrs)
	switch {
	case len(private) == len(addrs) && e.letsEncrypt():
		return []Finding{failure(name, fmt.Sprintf("%s; %s cannot be reached from the internet.", text, joinAddrs(private)),
			"Put this machine's public address into DNS, or use a private CA with -acme-ca.")}
	case len(elsewhere) == len(addrs):
		return []Finding{warning(name, fmt.Sprintf("%s; no interface of this machine has that address.", text),
			"This is correct behind NAT or a load balancer that forwards ports 80 and 443 to this machine. Otherwise correct the DNS records.")}
	case len(elsewhere) > 0:
		return []Finding{warning(name, fmt.Sprintf("%s; no interface of this machine has %s.", text, joinAddrs(elsewhere)),
			"The CA can connect to any of the addresses and prefers IPv6: remove the records that do not lead to this machine.")}
	case slices.ContainsFunc(addrs, netip.Addr.Is6) && e.onlyIPv4():
		return []Finding{warning(name, fmt.Sprintf("%s, but -bind %s listens on IPv4 only.", text, e.Bind),
			"Listen on all addresses, as with -bind :443, or remove the AAAA record.")}
	}
	return []Finding{good(name, text+", on this machine.")}
}

// checkIPName checks an IP address in place of a name.
func (e *examination) checkIPName(addr netip.Addr, local []netip.Addr) []Finding {
	name := addr.String()
	switch {
	case e.Engine == "autocert":
		return []Finding{failure(name, "The ACME engine autocert does not support IP addresses.",
			"Use -acme certmagic, or a name instead of the address.")}
	case e.letsEncrypt() && !isRoutable(addr):
		return []Finding{failure(name, "The address cannot be reached from the internet, so Let's Encrypt issues no certificate for it.",
			"Use the public address, or a private CA with -acme-ca.")}
	case !slices.Contains(local, addr):
		return []Finding{warning(name, "No interface of this machine has the address.",
			"This is correct behind NAT that forwards ports 80 and 443 to this machine. Otherwise use an address of this machine.")}
	}
	return []Finding{good(name, "An interface of this machine has the address.")}
}

// letsEncrypt reports whether Let's Encrypt, which validates over the internet, is
// the only CA.
func (e *examination) letsEncrypt() bool {
	return !slices.ContainsFunc(e.cas, func(ca acmeCA) bool { return !isLetsEncrypt(ca.URL) })
}

func isLetsEncrypt(caURL string) bool {
	u, err := url.Parse(caURL)
	return err == nil && strings.HasSuffix(u.Hostname(), ".api.letsencrypt.org")
}

// onlyIPv4 reports whether the main listener accepts IPv4 only.
func (e *examination) onlyIPv4() bool {
	host, _, err := net.SplitHostPort(e.Bind)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Is4()
}

// isRoutable reports whether an address is reachable over the internet.
func isRoutable(a netip.Addr) bool {
	return tlsmgr.IsPublicAddr(a)
}

// suggestAddrs lists the addresses for the DNS records in parentheses, or is "".
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
