// Package turn runs the server, browsers and TURN clients as hosts of a small network with
// firewalls and address translation, and shows which calls connect through the relay.
//
// All traffic stays inside network namespaces. The package requires root, ip(8) and nft(8).
package turn

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"inbox/e2e/netns"
)

// Names of servers, which the name server of the network has.
const (
	serverName = "inbox.example.org"  // host "server"
	secondName = "second.example.org" // the same host, at its other addresses
	natName    = "nat.example.org"    // host "natted", through address translation
	otherName  = "other.example.org"  // host "other"
	floodName  = "flood.example.org"  // host "flooded"
	plainName  = "plain.example.org"  // host "plain", without a relay
)

// natAddr is translated to the private address of host "natted", but not for packets that
// this host itself sends there: the router has no hairpin.
const natAddr = "198.51.100.34"

// forgedNetworks have no hosts. The router drops packets to them.
const forgedNetworks = "198.18.0.0/15"

// addrs are the addresses of names.
var addrs = map[string][]string{
	serverName: {"198.51.100.2", "2001:db8:11::2"},
	secondName: {"198.51.100.3", "2001:db8:11::3"},
	natName:    {natAddr},
	otherName:  {"198.51.100.18", "2001:db8:12::2"},
	floodName:  {"198.51.100.50"},
	plainName:  {"198.51.100.66", "2001:db8:13::2"},
}

// host has a link to the router. The router has the first address of each network of the
// link, where it is the default route and the name server of the host.
type host struct {
	name     string
	prefixes []string
}

// The firewall separates alice and bob. Carol and dave are always free to use the network.
var hosts = []host{
	{"alice", []string{"203.0.113.2/28", "2001:db8:1::2/64"}},
	{"bob", []string{"203.0.113.18/28", "2001:db8:2::2/64"}},
	{"carol", []string{"203.0.113.34/28", "2001:db8:3::2/64"}},
	{"dave", []string{"203.0.113.50/28", "2001:db8:4::2/64"}},
	{"proxy", []string{"203.0.113.66/28"}},
	{"server", []string{"198.51.100.2/28", "2001:db8:11::2/64", "198.51.100.3/28", "2001:db8:11::3/64"}},
	{"natted", []string{"10.0.0.2/24"}},
	{"other", []string{"198.51.100.18/28", "2001:db8:12::2/64"}},
	{"flooded", []string{"198.51.100.50/28"}},
	{"plain", []string{"198.51.100.66/28", "2001:db8:13::2/64"}},
}

// addrsOf returns the addresses of a host.
func addrsOf(name string) (all []netip.Addr) {
	for _, h := range hosts {
		for _, p := range h.prefixes {
			if h.name == name {
				all = append(all, netip.MustParsePrefix(p).Addr())
			}
		}
	}
	return all
}

// network is the router with its hosts.
type network struct{ netns.Network }

func newNetwork() (network, error) {
	n, err := netns.New("inbox-turn")
	if err != nil {
		return network{n}, err
	}
	w := network{n}
	if err := w.addRouter(); err != nil {
		return w, err
	}
	for _, h := range hosts {
		if err := w.addHost(h); err != nil {
			return w, err
		}
	}
	return w, w.setFirewall(openFirewall)
}

func (n network) addRouter() error {
	err := n.IP("netns add ROUTER", "-n ROUTER link set lo up", "-n ROUTER route add blackhole "+forgedNetworks)
	if err != nil {
		return err
	}
	return n.Do("router", func() error {
		const dir = "/proc/sys/net/"
		return errors.Join(
			os.WriteFile(dir+"ipv4/conf/all/forwarding", []byte("1"), 0),
			os.WriteFile(dir+"ipv6/conf/all/forwarding", []byte("1"), 0),
			// Packets with forged sources pass.
			os.WriteFile(dir+"ipv4/conf/all/rp_filter", []byte("0"), 0),
			os.WriteFile(dir+"ipv4/conf/default/rp_filter", []byte("0"), 0),
		)
	})
}

func (n network) addHost(h host) error {
	ns := strings.ToUpper(h.name)
	commands := []string{
		"netns add " + ns,
		"link add " + h.name + " netns ROUTER type veth peer name eth0 netns " + ns,
		"-n ROUTER link set " + h.name + " up",
		"-n " + ns + " link set lo up",
		"-n " + ns + " link set eth0 up",
	}
	for _, link := range h.links() {
		commands = append(commands, fmt.Sprintf("-n ROUTER addr add %s/%d%s dev %s", gateway(link), link.Bits(), nodad(link), h.name))
	}
	if err := n.IP(commands...); err != nil {
		return err
	}
	if err := n.setFamilies(h.name, bothFamilies); err != nil {
		return err
	}
	if err := n.Configure(h.name, "resolv.conf", h.resolvers()); err != nil {
		return err
	}
	return n.Configure(h.name, "hosts", "127.0.0.1 localhost\n")
}

// links returns the networks of the link to the router.
func (h host) links() (all []netip.Prefix) {
	for _, p := range h.prefixes {
		if link := netip.MustParsePrefix(p).Masked(); !slices.Contains(all, link) {
			all = append(all, link)
		}
	}
	return all
}

func (h host) resolvers() (conf string) {
	for _, link := range h.links() {
		conf += fmt.Sprintf("nameserver %s\n", gateway(link))
	}
	return conf
}

// gateway is the router's address in a network.
func gateway(link netip.Prefix) netip.Addr { return link.Addr().Next() }

// nodad disables duplicate address detection, which delays the use of an IPv6 address.
func nodad(p netip.Prefix) string {
	if p.Addr().Is6() {
		return " nodad"
	}
	return ""
}

// Families of addresses.
var (
	bothFamilies = func(netip.Addr) bool { return true }
	onlyIPv4     = netip.Addr.Is4
	onlyIPv6     = netip.Addr.Is6
)

// setFamilies replaces the addresses of a host by those of some families.
func (n network) setFamilies(name string, keep func(netip.Addr) bool) error {
	h := hosts[slices.IndexFunc(hosts, func(h host) bool { return h.name == name })]
	ns := strings.ToUpper(name)
	commands := []string{"-n " + ns + " -4 addr flush dev eth0", "-n " + ns + " -6 addr flush dev eth0 scope global"}
	for _, p := range h.prefixes {
		if prefix := netip.MustParsePrefix(p); keep(prefix.Addr()) {
			commands = append(commands, "-n "+ns+" addr add "+p+nodad(prefix)+" dev eth0")
		}
	}
	for _, link := range h.links() {
		if keep(link.Addr()) {
			commands = append(commands, fmt.Sprintf("-n %s route replace default via %s", ns, gateway(link)))
		}
	}
	return n.IP(commands...)
}

// Firewalls are rules of the router's forward chain for alice and bob. Dropped packets
// disappear without an error at their sender, as in the field.
const (
	openFirewall = ``
	// onlyHTTPS leaves only TCP port 443 of servers.
	onlyHTTPS = `
		iifname { "alice", "bob" } oifname { "server", "natted" } tcp dport 443 accept
		oifname { "alice", "bob" } iifname { "server", "natted" } tcp sport 443 accept
		iifname { "alice", "bob" } drop
		oifname { "alice", "bob" } drop`
	// noClientPath separates them from each other.
	noClientPath = `iifname { "alice", "bob" } oifname { "alice", "bob" } drop`
	// noUDPForBob separates them too, and blocks UDP for bob.
	noUDPForBob = noClientPath + `
		iifname "bob" oifname { "server", "natted", "plain" } meta l4proto udp drop`
)

// addressTranslation is one to one, and absent for packets of the server itself.
const addressTranslation = `
table ip nat {
	chain prerouting {
		type nat hook prerouting priority dstnat
		iifname != "natted" ip daddr ` + natAddr + ` dnat to 10.0.0.2
	}
	chain postrouting {
		type nat hook postrouting priority srcnat
		iifname "natted" snat to ` + natAddr + `
	}
}
`

// setFirewall replaces the rules of the router.
func (n network) setFirewall(rules string) error {
	return n.Filter("router", addressTranslation+`
table inet firewall {
	chain forward {
		type filter hook forward priority filter
		`+rules+`
	}
}
`)
}
