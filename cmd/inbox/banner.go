package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"inbox/tlsmgr"
)

// banner is for the person who started the program: where to click, and what
// the browser will say.
type banner struct {
	scheme      string
	addr        netip.AddrPort
	names       []string     // that were given with -domain
	network     []netip.Addr // this machine's addresses on its networks
	fingerprint string       // of a self-signed certificate
	inContainer bool         // in a container, whose addresses and ports may not be seen outside
}

func (b banner) String() string {
	var s strings.Builder
	s.WriteString("\ninbox is running. Open it in a browser:\n\n")
	for _, line := range b.links() {
		fmt.Fprintf(&s, "  %-24s %s\n", line[0], line[1])
	}
	if b.scheme == "http" {
		s.WriteString("\nOver plain HTTP, browsers give a page the camera only on localhost.\n")
	}
	if b.fingerprint != "" {
		fmt.Fprintf(&s, "\nThe certificate is self-signed, so browsers warn at the first visit. Go on\n"+
			"(Advanced, then Proceed or Accept) if the certificate has this SHA-256 fingerprint:\n\n  %s\n", b.fingerprint)
	}
	if b.inContainer {
		s.WriteString("\nThis is a container. Unless it shares its machine's network, others need the\naddress of that machine, and the port that was published (-p).\n")
	}
	s.WriteString("\nPress Ctrl+C to stop.\n\n")
	return s.String()
}

// links are pairs of where one is and what to open there.
func (b banner) links() [][2]string {
	addr := b.addr.Addr()
	if len(b.names) > 0 {
		links := make([][2]string, len(b.names))
		for i, name := range b.names {
			links[i] = [2]string{"From anywhere:", b.url(name)}
		}
		return links
	}
	if addr.IsLoopback() {
		return [][2]string{{"On this machine:", b.url("localhost")}}
	}
	if !addr.IsUnspecified() {
		from := "From anywhere:"
		if !tlsmgr.IsPublicAddr(addr) {
			from = "From another device:" // of the same network
		}
		return [][2]string{{from, b.url(addr.String())}}
	}
	links := [][2]string{{"On this machine:", b.url("localhost")}}
	for _, a := range b.network {
		if a.Is4() || addr.Is6() {
			links = append(links, [2]string{"From another device:", b.url(a.String())})
		}
	}
	return links
}

func (b banner) url(host string) string {
	named := len(b.names) > 0 && b.inContainer // an authority asks at 443 alone, so that it is mapped
	if b.scheme == "https" && (b.addr.Port() == 443 || named) {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return b.scheme + "://" + host
	}
	return b.scheme + "://" + net.JoinHostPort(host, fmt.Sprint(b.addr.Port()))
}

// networkAddrs are the addresses by which other devices reach this machine.
// Link-local ones are left out: a browser cannot open them.
func networkAddrs() []netip.Addr {
	var found []netip.Addr
	addrs, _ := net.InterfaceAddrs() // none, then
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().IsGlobalUnicast() {
			found = append(found, p.Addr().Unmap())
		}
	}
	return found
}
