// Package binding reads addresses as -bind has them: host:port, either of which
// may be left out.
package host

import (
	"fmt"
	"net"
	"net/netip"
)

// Port is the number of the port in an address, which may give the port by its
// name; empty for none, as for a Unix socket.
func Port(bind string) string {
	_, port, _ := net.SplitHostPort(bind)
	if n, err := net.LookupPort("tcp", port); err == nil && port != "" {
		return fmt.Sprint(n)
	}
	return ""
}

// DialAddrs are the addresses under which a listener is reached from this machine:
// none for a Unix socket.
func DialAddrs(bind string) []string {
	host, _, err := net.SplitHostPort(bind)
	addr, notIP := netip.ParseAddr(host)
	port := Port(bind)
	switch {
	case err != nil:
		return nil
	case notIP == nil && !addr.IsUnspecified(), notIP != nil && host != "":
		return []string{net.JoinHostPort(host, port)}
	case notIP == nil && addr.Is4():
		return []string{net.JoinHostPort("127.0.0.1", port)}
	}
	return []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}
}
