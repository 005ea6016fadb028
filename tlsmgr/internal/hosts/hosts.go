// Package hosts converts host names and IP addresses to a canonical form.
package hosts

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// Canonical returns an IP address in the format of netip, or a host name in lower-case
// ASCII without a final dot. A wildcard is an error.
func Canonical(given string) (string, error) {
	name := strings.TrimSuffix(strings.TrimSpace(given), ".")
	if ip, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil && ip.Zone() == "" {
		return ip.Unmap().String(), nil
	}
	if strings.Contains(name, "*") {
		return "", fmt.Errorf("%q contains a wildcard, which requires DNS challenges; list each host name", given)
	}
	ascii, err := idna.Lookup.ToASCII(name)
	if err != nil || !isHostName(ascii) {
		return "", fmt.Errorf("%q is not a host name; use the form example.org, without https:// or a port", given)
	}
	return ascii, nil
}

// isHostName reports whether a name has the syntax of DNS. Its last label must not be a
// number, because browsers parse such a name as an IP address (WHATWG URL, host parsing).
func isHostName(ascii string) bool {
	labels := strings.Split(ascii, ".")
	isInvalid := func(l string) bool { return l == "" || len(l) > 63 || strings.ContainsAny(l, ":/ ") }
	last := labels[len(labels)-1]
	return len(ascii) <= 253 && !slices.ContainsFunc(labels, isInvalid) && strings.Trim(last, "0123456789") != ""
}

// FromHeader returns the host of a Host header, without its port, in canonical form.
func FromHeader(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") && (strings.Count(host, ":") == 1 || host[0] == '[') {
		host = host[:i]
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if bare := strings.Trim(host, "[]"); IsIP(bare) {
		return Addr(bare)
	}
	return host
}

// IsIP reports whether a name is an IP address.
func IsIP(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

// Addr returns an IP address in the format of netip, or "" if text is not an IP address.
func Addr(text string) string {
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return ""
	}
	return ip.String()
}

// carrierNAT is the shared address space of carriers (RFC 6598).
var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

// IsPublicAddr reports whether an IP address is reachable over the internet.
func IsPublicAddr(a netip.Addr) bool {
	a = a.Unmap()
	zero := a.Is4() && a.As4()[0] == 0
	return a.IsGlobalUnicast() && !a.IsPrivate() && !carrierNAT.Contains(a) && !zero
}

// IsPublic reports whether a public CA can validate a name or IP address. It is false for
// those of local networks (RFC 6761, 6762, 8375).
func IsPublic(name string) bool {
	if ip, err := netip.ParseAddr(name); err == nil {
		return IsPublicAddr(ip)
	}
	for _, suffix := range []string{".localhost", ".local", ".internal", ".home.arpa"} {
		if strings.HasSuffix("."+name, suffix) {
			return false
		}
	}
	return true
}
