// Package cluster runs several servers and their shared store as hosts of a small
// network in network namespaces, and stops hosts and disconnects links while peers
// exchange messages.
package cluster

import (
	"strings"

	"inbox/e2e/netns"
)

// network is a bridge with a link to each host.
type network struct{ netns.Network }

// newNetwork creates the bridge.
func newNetwork() (network, error) {
	n, err := netns.New("inbox-cluster")
	if err != nil {
		return network{n}, err
	}
	return network{n}, n.IP(
		"netns add SWITCH",
		"-n SWITCH link add bridge type bridge",
		"-n SWITCH link set bridge up",
	)
}

// addHost creates a host with an address in 10.99.0.0/16.
func (n network) addHost(host, addr string) error {
	ns := strings.ToUpper(host)
	return n.IP(
		"netns add "+ns,
		"link add cable-"+host+" netns SWITCH type veth peer name eth0 netns "+ns,
		"-n SWITCH link set cable-"+host+" master bridge up",
		"-n "+ns+" addr add "+addr+"/16 dev eth0",
		"-n "+ns+" link set eth0 up",
		"-n "+ns+" link set lo up",
	)
}

// addSourceAddrs lets a host also use the addresses of 10.99.128.0/17.
func (n network) addSourceAddrs(host string) error {
	return n.IP("-n " + strings.ToUpper(host) + " route add local 10.99.128.0/17 dev lo")
}

// disconnect takes a host's link down: packets in both directions are lost silently.
func (n network) disconnect(host string) error {
	return n.IP("-n SWITCH link set cable-" + host + " down")
}

func (n network) reconnect(host string) error {
	return n.IP("-n SWITCH link set cable-" + host + " up")
}
