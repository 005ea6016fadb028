package server

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"inbox/cmd/inbox/internal/host"
	"inbox/tlsmgr"
)

// banner is the startup text for a terminal: the links to open, and the browser
// warnings to expect.
type banner struct {
	scheme      string
	addr        netip.AddrPort
	names       []string     // of -domain
	network     []netip.Addr // addresses of this machine's interfaces
	fingerprint string       // of a self-signed certificate
	inContainer bool         // addresses and ports can differ outside
	relay       string       // a paragraph about the relay; empty: none
}

// bannerWidth is the width of long paragraphs.
const bannerWidth = 79

func (b banner) String() string {
	var s strings.Builder
	s.WriteString("\ninbox is running. Open it in a browser:\n\n")
	for _, line := range b.links() {
		fmt.Fprintf(&s, "  %-24s %s\n", line[0], line[1])
	}
	if b.relay != "" {
		fmt.Fprintf(&s, "\n%s\n", host.Wrap(b.relay, "", bannerWidth))
	}
	if b.scheme == "http" {
		s.WriteString("\nOver plain HTTP, browsers allow camera access only on localhost.\n")
	}
	if b.fingerprint != "" {
		fmt.Fprintf(&s, "\nThe certificate is self-signed, so browsers warn on the first visit. Continue\n"+
			"(Advanced, then Proceed or Accept) if the certificate has this SHA-256 fingerprint:\n\n  %s\n", b.fingerprint)
	}
	if b.inContainer {
		s.WriteString("\nRunning in a container. Unless it uses the host's network, connect to the\naddress of the host and the published port (-p).\n")
	}
	s.WriteString("\nPress Ctrl+C to stop.\n\n")
	return s.String()
}

// links returns pairs of a client location and the URL to open from there.
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
			from = "From another device:" // on the same network
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
	named := len(b.names) > 0 && b.inContainer // a CA validates on port 443 only, so that port must be published
	if b.scheme == "https" && (b.addr.Port() == 443 || named) {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return b.scheme + "://" + host
	}
	return b.scheme + "://" + net.JoinHostPort(host, fmt.Sprint(b.addr.Port()))
}

// networkAddrs returns the addresses at which other devices reach this machine. It omits
// link-local addresses, which browsers cannot open.
func networkAddrs() []netip.Addr {
	var found []netip.Addr
	addrs, _ := net.InterfaceAddrs() // on failure, the banner shows localhost only
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().IsGlobalUnicast() {
			found = append(found, p.Addr().Unmap())
		}
	}
	return found
}
