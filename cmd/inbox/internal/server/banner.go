package server

import (
	"fmt"
	"net/netip"
	"strings"

	"inbox/cmd/inbox/internal/host"
	"inbox/cmd/inbox/internal/qrcode"
	"inbox/tlsmgr"
)

// banner is the startup text for a terminal: the links to open, and the browser
// warnings to expect.
type banner struct {
	site
	network     []netip.Addr // addresses of this machine's interfaces
	fingerprint string       // of a self-signed certificate
	relay       string       // a paragraph about the relay; empty: none
	columns     int          // of the terminal; 0: no QR code
	isService   bool         // a service manager stops the server
}

// bannerWidth is the width of long paragraphs.
const bannerWidth = 79

func (b banner) String() string {
	var s strings.Builder
	s.WriteString("\ninbox is running. Open it in a browser:\n\n")
	for _, line := range b.links() {
		fmt.Fprintf(&s, "  %-24s %s\n", line[0], line[1])
	}
	s.WriteString(b.code())
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
	if !b.isService {
		s.WriteString("\nPress Ctrl+C to stop.\n")
	}
	s.WriteString("\n")
	return s.String()
}

// code returns the QR code of the first address that another device can open.
func (b banner) code() string {
	remote := b.remote(b.network)
	if len(remote) == 0 {
		return ""
	}
	url := remote[0].url()
	code := qrcode.Text(url, b.columns)
	if code == "" {
		return ""
	}
	return "\nOn a phone, scan this code to open " + url + "\n\n" + code
}

// links returns pairs of a client location and the URL to open from there.
func (b banner) links() (links [][2]string) {
	bound := b.addr.Addr()
	if len(b.names) == 0 && (bound.IsLoopback() || bound.IsUnspecified()) {
		links = append(links, [2]string{"On this machine:", b.at("localhost").url()})
	}
	from := "From another device:" // on the same network
	if len(b.names) > 0 || !bound.IsUnspecified() && tlsmgr.IsPublicAddr(bound) {
		from = "From anywhere:"
	}
	for _, a := range b.remote(b.network) {
		links = append(links, [2]string{from, a.url()})
	}
	return links
}
