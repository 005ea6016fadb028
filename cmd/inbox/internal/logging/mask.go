package logging

import (
	"net/netip"
	"regexp"
)

// MaskAddr returns the /24 network of an IPv4 address or the /48 of an IPv6 address:
// enough to find the source of a problem, too little to identify a client. It
// returns "unknown" for an invalid address, like that of a Unix socket.
func MaskAddr(addr netip.Addr) string {
	if !addr.IsValid() {
		return "unknown"
	}
	addr = addr.Unmap().WithZone("") // an IPv4-mapped address would be masked to ::/48
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	prefix, _ := addr.Prefix(bits) // fails only for too many bits
	return prefix.String()
}

// addressPattern matches what net/http prints for a peer: 192.0.2.1:443 or [2001:db8::1]:443.
var addressPattern = regexp.MustCompile(`(\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]+(?:%[^\]]*)?\]):\d+`)

// maskAddresses masks all addresses with ports in a text.
func maskAddresses(text string) string {
	return addressPattern.ReplaceAllStringFunc(text, func(hostport string) string {
		ap, err := netip.ParseAddrPort(hostport)
		if err != nil {
			return "(address)"
		}
		return MaskAddr(ap.Addr())
	})
}
