package host

import (
	"fmt"
	"net"
	"net/netip"
)

// Port returns the port number of a listen address, host:port, whose port can be
// a service name. It returns "" for an address without a port, like a Unix socket.
func Port(bind string) string {
	_, port, _ := net.SplitHostPort(bind)
	if n, err := net.LookupPort("tcp", port); err == nil && port != "" {
		return fmt.Sprint(n)
	}
	return ""
}

// DialAddrs returns the addresses that reach a listener on bind from this
// machine; none for a Unix socket.
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
