// Package cluster runs several servers and their shared store as hosts of a small
// network in network namespaces, and stops hosts and disconnects links while peers
// exchange messages.
package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// network is a bridge with a link to each host. All of it lies in namespaces whose
// names begin with that of the network.
type network struct{ name string }

// newNetwork creates the bridge. It requires root and the ip command.
func newNetwork() (network, error) {
	n := network{fmt.Sprintf("inbox%d-", os.Getpid())}
	return n, n.runIP(
		"netns add SWITCH",
		"-n SWITCH link add bridge type bridge",
		"-n SWITCH link set bridge up",
	)
}

// runIP runs ip with each of the commands. Words in capitals stand for namespaces of
// this network.
func (n network) runIP(commands ...string) error {
	for _, c := range commands {
		var words []string
		for _, w := range strings.Fields(c) {
			if w == strings.ToUpper(w) && strings.ContainsAny(w, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
				w = n.name + strings.ToLower(w)
			}
			words = append(words, w)
		}
		if out, err := exec.Command("ip", words...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(words, " "), err, out)
		}
	}
	return nil
}

// addHost creates a host with an address in 10.99.0.0/16.
func (n network) addHost(host, addr string) error {
	ns := strings.ToUpper(host)
	return n.runIP(
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
	return n.runIP("-n " + strings.ToUpper(host) + " route add local 10.99.128.0/17 dev lo")
}

// disconnect takes a host's link down: packets in both directions are lost silently.
func (n network) disconnect(host string) error {
	return n.runIP("-n SWITCH link set cable-" + host + " down")
}

func (n network) reconnect(host string) error {
	return n.runIP("-n SWITCH link set cable-" + host + " up")
}

// command returns a command that runs a program on a host.
func (n network) command(host, program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.name + host, program}, args...)...)
}

// remove deletes all hosts. Their processes must have ended.
func (n network) remove(hosts ...string) error {
	var all []string
	for _, host := range append(hosts, "switch") {
		all = append(all, "netns del "+strings.ToUpper(host))
	}
	return n.runIP(all...)
}
