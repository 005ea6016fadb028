// Package netns builds small networks of Linux network namespaces, which tests use as
// hosts, routers and switches. All traffic stays inside the namespaces. It requires root
// and the ip command.
package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	// namespaceDir has a file for each namespace, created by ip-netns(8).
	namespaceDir = "/run/netns"
	// configDir has a directory for each namespace, whose files replace those of /etc in
	// commands that ip-netns(8) runs.
	configDir = "/etc/netns"
)

// Network is a set of namespaces whose names begin with Name.
type Network struct{ Name string }

// New returns a network without hosts for this process. It removes networks of the same
// purpose whose process has ended without [Network.Remove].
func New(purpose string) (Network, error) {
	if err := removeLeftovers(purpose); err != nil {
		return Network{}, err
	}
	return Network{fmt.Sprintf("%s%d-", purpose, os.Getpid())}, nil
}

func removeLeftovers(purpose string) error {
	for _, name := range namespaces(purpose) {
		process, host, found := strings.Cut(strings.TrimPrefix(name, purpose), "-")
		pid, err := strconv.Atoi(process)
		if !found || err != nil || syscall.Kill(pid, 0) == nil {
			continue
		}
		if err := (Network{purpose + process + "-"}).removeHost(host); err != nil {
			return err
		}
	}
	return nil
}

// Missing returns what the machine lacks to build networks and to run the programs, or "".
func Missing(programs ...string) string {
	if os.Geteuid() != 0 {
		return "requires root for network namespaces"
	}
	for _, program := range append(programs, "ip") {
		if _, err := exec.LookPath(program); err != nil {
			return "requires " + program + ": run scripts/test install"
		}
	}
	return ""
}

// IP runs ip(8) with each of the commands. Words in capitals are hosts of this network.
func (n Network) IP(commands ...string) error {
	for _, c := range commands {
		var words []string
		for _, w := range strings.Fields(c) {
			if w == strings.ToUpper(w) && strings.ContainsAny(w, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
				w = n.namespace(strings.ToLower(w))
			}
			words = append(words, w)
		}
		if out, err := exec.Command("ip", words...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(words, " "), err, out)
		}
	}
	return nil
}

func (n Network) namespace(host string) string { return n.Name + host }

// Command returns a command that runs a program on a host. ip(8) executes the program, so
// that signals reach it.
func (n Network) Command(host, program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.namespace(host), program}, args...)...)
}

// Configure replaces a file in /etc for the commands of a host, such as "hosts".
func (n Network) Configure(host, file, text string) error {
	dir := filepath.Join(configDir, n.namespace(host))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644)
}

// Filter replaces the nftables rules of a host. It requires nft(8).
func (n Network) Filter(host, rules string) error {
	c := n.Command(host, "nft", "-f", "-")
	c.Stdin = strings.NewReader("flush ruleset\n" + rules)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("nft on %s: %w: %s", host, err, out)
	}
	return nil
}

// Remove kills the processes of all hosts and removes the hosts.
func (n Network) Remove() error {
	var all []error
	for _, name := range namespaces(n.Name) {
		all = append(all, n.removeHost(strings.TrimPrefix(name, n.Name)))
	}
	return errors.Join(all...)
}

func (n Network) removeHost(host string) error {
	name := n.namespace(host)
	if out, err := exec.Command("ip", "netns", "pids", name).Output(); err == nil {
		for _, word := range strings.Fields(string(out)) {
			if pid, err := strconv.Atoi(word); err == nil && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL) // fails only if already exited
			}
		}
	}
	errConfig := os.RemoveAll(filepath.Join(configDir, name))
	_ = os.Remove(configDir) // succeeds for the last host
	if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
		return fmt.Errorf("ip netns del %s: %w: %s", name, err, out)
	}
	return errConfig
}

// namespaces returns the namespaces whose names have a prefix.
func namespaces(prefix string) (names []string) {
	entries, _ := os.ReadDir(namespaceDir) // missing before the first namespace
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names
}
