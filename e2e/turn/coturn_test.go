package turn

import (
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"inbox/e2e/netns"

	"golang.org/x/sys/unix"
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

// Both addresses of the server answer, in both families, from the address that was asked:
// the client ignores other answers.
func TestSTUNClient(t *testing.T) {
	startServer(t, "server")
	program := coturn(t, "turnutils_stunclient")
	for asked, client := range map[string]string{
		"198.51.100.10": "203.0.113.10", "198.51.100.11": "203.0.113.10",
		"2001:db8:3::10": "2001:db8:1::10", "2001:db8:3::11": "2001:db8:1::10",
	} {
		t.Run(asked, func(t *testing.T) {
			out, err := run(t, "alice", program, asked)
			m := reflexivePattern.FindStringSubmatch(out)
			if err != nil || m == nil || !strings.HasPrefix(m[1], client+":") {
				t.Errorf("got %v and %q, want the address %s", err, out, client)
			}
		})
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

func TestCoturnClient(t *testing.T) {
	startServer(t, "server")
	program := coturn(t, "turnutils_uclient")
	relay, err := world.fetchTURN("alice", serverName, "coturn")
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"UDP":                   {"198.51.100.10"},
		"UDP, IPv6":             {"2001:db8:3::10"},
		"UDP, second address":   {"198.51.100.11"},
		"UDP, Send indications": {"-s", "198.51.100.10"},
		"TLS":                   append(overTLS(), "198.51.100.10"),
		"TLS, Send indications": append(overTLS(), "-s", "198.51.100.10"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := run(t, "alice", program, uclient(relay, append([]string{"-y"}, args...)...)...)
			if err != nil || !strings.Contains(out, "tot_send_msgs=80, tot_recv_msgs=80") {
				t.Errorf("got %v, want 80 messages sent and received:\n%s", err, out)
			}
		})
	}
}

// foreignPeers are not relays of the server.
var foreignPeers = []string{
	"203.0.113.130",   // another client
	"198.51.100.10",   // the server
	"127.0.0.1",       // the server, from its own view
	"10.0.0.10",       // a private network
	"169.254.169.254", // cloud metadata
	"203.0.113.10",    // the client itself
}

// A client that names a foreign peer is refused, and no packet leaves for the peer.
func TestForeignPeersAreRefused(t *testing.T) {
	startServer(t, "server")
	program := coturn(t, "turnutils_uclient")
	relay, err := world.fetchTURN("alice", serverName, "coturn")
	if err != nil {
		t.Fatal(err)
	}
	wire := startCapture(t, "server")
	t.Run("clients", func(t *testing.T) {
		for _, peer := range foreignPeers {
			for name, args := range map[string][]string{
				"UDP, channel":    {"-e", peer, "198.51.100.10"},
				"UDP, permission": {"-s", "-e", peer, "198.51.100.10"},
				"TLS, channel":    append(overTLS(), "-e", peer, "198.51.100.10"),
			} {
				t.Run(peer+", "+name, func(t *testing.T) {
					t.Parallel()
					out, err := run(t, "alice", program, uclient(relay, args...)...)
					if err == nil || !strings.Contains(out, "error 403") {
						t.Errorf("got %v, want error 403:\n%s", err, out)
					}
				})
			}
		}
	})
	wantOnlyTo(t, wire, "203.0.113.10")
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
	packets := map[netip.Addr]int{}
	for p, count := range wire.Sent() {
		if p.Protocol == unix.IPPROTO_UDP || p.Protocol == unix.IPPROTO_TCP {
			packets[p.To.Addr()] += count
		} else {
			t.Errorf("got %d packets of protocol %d to %v, want none", count, p.Protocol, p.To.Addr())
		}
	}
	for _, client := range clients {
		addr := netip.MustParseAddr(client)
		if packets[addr] == 0 {
			t.Errorf("got no packets to client %v, want the capture to record some", addr)
		}
		delete(packets, addr)
	}
	if len(packets) > 0 {
		t.Errorf("got packets to %v, want packets only to %v", packets, clients)
	}
}
