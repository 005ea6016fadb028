package server

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func Example_banner() {
	fmt.Print(banner{
		site:    site{scheme: "http", addr: netip.MustParseAddrPort("0.0.0.0:3000")},
		network: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")},
	})
	// Output:
	// inbox is running. Open it in a browser:
	//
	//   On this machine:         http://localhost:3000
	//   From another device:     http://192.0.2.7:3000
	//
	// Over plain HTTP, browsers allow camera access only on localhost.
	//
	// Press Ctrl+C to stop.
}

func TestBannerOfService(t *testing.T) {
	b := banner{site: site{scheme: "https", addr: netip.MustParseAddrPort("[::]:443")}}
	if text := b.String(); !strings.Contains(text, "Ctrl+C") {
		t.Errorf("got %q, want how to stop it", text)
	}
	b.isService = true
	if text := b.String(); strings.Contains(text, "Ctrl+C") || !strings.HasSuffix(text, "\n\n") {
		t.Errorf("service: got %q", text)
	}
}

func TestBannerLinks(t *testing.T) {
	network := []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}
	for _, tt := range []struct {
		addr string
		want []string
	}{
		{"127.0.0.1:3000", []string{"https://localhost:3000"}},
		{"[::1]:3000", []string{"https://localhost:3000"}},
		{"0.0.0.0:3000", []string{"https://localhost:3000", "https://192.0.2.7:3000"}},
		{"[::]:3000", []string{"https://localhost:3000", "https://192.0.2.7:3000", "https://[2001:db8::7]:3000"}},
		{"192.0.2.7:443", []string{"https://192.0.2.7"}},
	} {
		var got []string
		for _, link := range (banner{site: site{scheme: "https", addr: netip.MustParseAddrPort(tt.addr)}, network: network}).links() {
			got = append(got, link[1])
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("bound to %s: %v, want %v", tt.addr, got, tt.want)
		}
	}
}

// TestBannerInContainer checks that the banner lists the container's own addresses, which
// are valid with the host's network, and mentions published ports.
func TestBannerInContainer(t *testing.T) {
	b := banner{
		site:    site{scheme: "https", addr: netip.MustParseAddrPort("[::]:3000"), inContainer: true},
		network: []netip.Addr{netip.MustParseAddr("10.88.0.9")},
	}
	if got, want := fmt.Sprint(b.links()), "[[On this machine: https://localhost:3000] [From another device: https://10.88.0.9:3000]]"; got != want || !strings.Contains(b.String(), "(-p)") {
		t.Errorf("got %s, want %s and a hint about -p:\n%v", got, want, b)
	}
	b.names = []string{"example.org"}
	if got, want := fmt.Sprint(b.links()), "[[From anywhere: https://example.org]]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestBannerReachability checks that private addresses are shown as reachable from the
// same network only.
func TestBannerReachability(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1": "On this machine:", "8.8.8.8": "From anywhere:", "2001:4860:4860::8888": "From anywhere:",
		"10.1.2.3": "From another device:", "192.168.1.2": "From another device:", "172.31.0.1": "From another device:",
		"100.64.0.1": "From another device:", "fd00::1": "From another device:", "169.254.1.1": "From another device:",
	} {
		links := banner{site: site{scheme: "https", addr: netip.AddrPortFrom(netip.MustParseAddr(addr), 3000)}}.links()
		if got := links[0][0]; len(links) != 1 || got != want {
			t.Errorf("bound to %s: got %q, want %q", addr, got, want)
		}
	}
}

func TestNetworkAddrsAreReachable(t *testing.T) {
	for _, a := range networkAddrs() {
		if a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() {
			t.Errorf("%v is not reachable from another device", a)
		}
	}
}
