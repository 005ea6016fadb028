package turn

import (
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"inbox/e2e/netns"
)

// coturn returns the path of a client program of coturn.
func coturn(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		skipOrFail(t, "requires "+program+" of coturn: run scripts/test install")
	}
	return path
}

// clientTimeout ends a foreign client that hangs.
const clientTimeout = 60 * time.Second

// run runs a program on a host, for at most clientTimeout.
func run(t *testing.T, host, program string, args ...string) (out string, err error) {
	t.Helper()
	c := world.Command(host, program, args...)
	timer := time.AfterFunc(clientTimeout, func() { _ = c.Process.Kill() }) // fails only if already exited
	defer timer.Stop()
	text, err := c.CombinedOutput()
	return string(text), err
}

var reflexivePattern = regexp.MustCompile(`UDP reflexive addr: (\S+)`)

// stunClient asks an address of each family. The client ignores answers from another
// address.
func stunClient(t *testing.T, s *server) {
	program := coturn(t, "turnutils_stunclient")
	for i, asked := range addrs[otherName] {
		out, err := run(t, "carol", program, asked)
		m := reflexivePattern.FindStringSubmatch(out)
		if client := addrsOf("carol")[i].String(); err != nil || m == nil || !strings.HasPrefix(m[1], client+":") {
			t.Errorf("%s: got %v and %q, want the address %s", asked, err, out, client)
		}
	}
}

// uclient returns a command line of turnutils_uclient: four clients without RTCP that send
// some messages each.
func uclient(s iceServer, args ...string) []string {
	return append([]string{"-u", s.Username, "-w", s.Credential, "-m", "4", "-n", "20", "-c"}, args...)
}

// overTLS are the options of turnutils_uclient for TLS. It verifies the certificate, but not
// its name.
func overTLS() []string { return []string{"-t", "-S", "-E", world.ca, "-p", "443"} }

// coturnClient has clients of coturn exchange messages.
func coturnClient(t *testing.T, s *server) {
	program := coturn(t, "turnutils_uclient")
	relay, err := world.fetchTURN("carol", otherName, "coturn")
	if err != nil {
		t.Fatal(err)
	}
	ipv4, ipv6 := addrs[otherName][0], addrs[otherName][1]
	for name, args := range map[string][]string{
		"UDP":                   {ipv4},
		"UDP, IPv6":             {ipv6},
		"UDP, Send indications": {"-s", ipv4},
		"TLS":                   append(overTLS(), ipv4),
		"TLS, Send indications": append(overTLS(), "-s", ipv4),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := run(t, "carol", program, uclient(relay, append([]string{"-y"}, args...)...)...)
			if err != nil || !strings.Contains(out, "tot_send_msgs=80, tot_recv_msgs=80") {
				t.Errorf("got %v, want 80 messages sent and received:\n%s", err, out)
			}
		})
	}
}

// foreignPeers are not relays of the server.
var foreignPeers = []string{
	"203.0.113.18",    // another client
	"198.51.100.18",   // the server
	"127.0.0.1",       // the server, from its own view
	"10.0.0.2",        // a private network
	"169.254.169.254", // cloud metadata
	"203.0.113.34",    // the client itself
}

// foreignPeersAreRefused has clients of coturn name foreign peers. TestClients checks that no
// packet leaves for a peer.
func foreignPeersAreRefused(t *testing.T, s *server) {
	program := coturn(t, "turnutils_uclient")
	relay, err := world.fetchTURN("carol", otherName, "coturn")
	if err != nil {
		t.Fatal(err)
	}
	ipv4 := addrs[otherName][0]
	for _, peer := range foreignPeers {
		for name, args := range map[string][]string{
			"UDP, channel":    {"-e", peer, ipv4},
			"UDP, permission": {"-s", "-e", peer, ipv4},
			"TLS, channel":    append(overTLS(), "-e", peer, ipv4),
		} {
			out, err := run(t, "carol", program, uclient(relay, args...)...)
			if err == nil || !strings.Contains(out, "error 403") {
				t.Errorf("%s, %s: got %v, want error 403:\n%s", peer, name, err, out)
			}
		}
	}
}

// startCapture records what a host sends until the end of the test.
func startCapture(t *testing.T, host string) *netns.Capture {
	t.Helper()
	c, err := world.Capture(host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// wantOnlyTo checks that a host has sent packets to some clients, and to no other address.
func wantOnlyTo(t *testing.T, wire *netns.Capture, clients ...string) {
	t.Helper()
	sent := map[netip.Addr]int{}
	for p, traffic := range wire.Sent() {
		sent[p.To.Addr()] += traffic.Packets
	}
	for _, client := range clients {
		total := 0
		for _, addr := range addrsOf(client) {
			total += sent[addr]
			delete(sent, addr)
		}
		if total == 0 {
			t.Errorf("got no packets to %s, want the capture to record some", client)
		}
	}
	if len(sent) > 0 {
		t.Errorf("got packets to %v, want packets only to %v", sent, clients)
	}
}
