package doctor

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"inbox/tlsmgr/acme"
)

func TestDoctorChecksNames(t *testing.T) {
	at := func(record string) func(*testEnv) {
		return func(s *testEnv) { s.zone.reset(); s.zone.add(record) }
	}
	runCases(t, []testCase{
		{"no address", func(s *testEnv) { s.zone.reset() },
			expect{"names", Failure, "no address in DNS", "the address of this machine (203.0.113.5)"}},
		{"no address, behind NAT", func(s *testEnv) {
			s.zone.reset()
			s.localAddrs = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("10.0.0.2")}, nil }
		}, expect{"names", Failure, "no address in DNS", "the address of this machine at the"}},
		{"no such name", func(s *testEnv) { s.zone.rcode["A"], s.zone.rcode["AAAA"] = dns.RcodeNameError, dns.RcodeNameError },
			expect{"names", Failure, "no address in DNS", "A record"}},
		{"DNS server fails", func(s *testEnv) { s.zone.rcode["AAAA"] = dns.RcodeServerFailure },
			expect{"names", Warning, "look up AAAA records: the DNS server responds with SERVFAIL", "/etc/resolv.conf"}},
		{"elsewhere", at("www.example.net. 60 IN A 198.51.100.1"),
			expect{"names", Warning, "198.51.100.1; no interface of this machine has that address", "NAT"}},
		{"partly elsewhere", func(s *testEnv) { s.zone.add("www.example.net. 60 IN AAAA 2001:db8::1") },
			expect{"names", Warning, "no interface of this machine has 2001:db8::1", "prefers IPv6"}},
		{"private for Let's Encrypt", func(s *testEnv) { s.CA.URL = ""; at("www.example.net. 60 IN A 192.168.1.2")(s) },
			expect{"names", Failure, "192.168.1.2 cannot be reached from the internet", "public address"}},
		{"private for a private CA", func(s *testEnv) {
			at("www.example.net. 60 IN A 127.0.0.1")(s)
			s.localAddrs = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil }
		}, expect{"names", OK, "127.0.0.1, on this machine", ""}},
		{"addresses of the machine unknown", func(s *testEnv) {
			s.localAddrs = func() ([]netip.Addr, error) { return nil, errors.New("no netlink") }
		}, expect{"names", Warning, "could not be listed: no netlink", "Compare"}},
		{"IPv6 without a listener", func(s *testEnv) {
			at("www.example.net. 60 IN AAAA 2001:db8::1")(s)
			s.localAddrs = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("2001:db8::1")}, nil }
			s.Bind = "0.0.0.0:443"
		}, expect{"names", Warning, "-bind 0.0.0.0:443 listens on IPv4 only", "AAAA record"}},
		{"IPv4 with its listener", func(s *testEnv) { s.Bind = "0.0.0.0:443" }, expect{"names", OK, "on this machine", ""}},
		{"a wildcard", func(s *testEnv) { s.Domains = []string{"*.example.net"} },
			expect{"names", Failure, "dns-01 challenge", "each host"}},
	})
}

// The addresses of an alias are those of its target.
func TestDoctorFollowsAliases(t *testing.T) {
	s := newTestEnv(t)
	s.zone.reset()
	s.zone.add("www.example.net. 60 IN CNAME host.example.com.")
	s.zone.add("host.example.com. 60 IN A 203.0.113.5")
	s.zone.addCAA("host.example.com", 0, "issue", "ca.example")
	s.expectFinding(expect{"names", OK, "203.0.113.5, on this machine", ""})
	s.expectFinding(expect{"caa", OK, "permit ca.example", ""})
}

func TestDoctorChecksIPNames(t *testing.T) {
	named := func(addr string) func(*testEnv) { return func(s *testEnv) { s.Domains = []string{addr} } }
	runCases(t, []testCase{
		{"local", named("203.0.113.5"), expect{"names", OK, "An interface of this machine has the address", ""}},
		{"IPv4 in IPv6", named("::ffff:203.0.113.5"), expect{"names", OK, "An interface of this machine has the address", ""}},
		{"local, for Let's Encrypt", func(s *testEnv) { s.CA.URL = ""; named("203.0.113.5")(s) }, expect{"names", OK, "An interface of this machine has the address", ""}},
		{"elsewhere", named("203.0.113.6"), expect{"names", Warning, "No interface of this machine has the address", "NAT"}},
		{"autocert", func(s *testEnv) { s.Engine = "autocert"; named("203.0.113.5")(s) },
			expect{"names", Failure, "autocert does not support IP addresses", "-acme certmagic"}},
		{"private for Let's Encrypt", func(s *testEnv) { s.CA.URL = ""; named("10.0.0.1")(s) },
			expect{"names", Failure, "cannot be reached from the internet", "public address"}},
	})
}

func TestIsRoutable(t *testing.T) {
	for text, want := range map[string]bool{
		"203.0.113.5": true, "2001:db8::1": true, "10.1.2.3": false, "100.64.0.1": false, "100.128.0.1": true,
		"127.0.0.1": false, "169.254.1.1": false, "fe80::1": false, "fd00::1": false, "::1": false, "0.0.0.0": false,
	} {
		if got := isRoutable(netip.MustParseAddr(text)); got != want {
			t.Errorf("isRoutable(%s) = %v, want %v", text, got, want)
		}
	}
}

func TestOnlyIPv4(t *testing.T) {
	for bind, want := range map[string]bool{
		"0.0.0.0:443": true, "192.0.2.1:443": true, ":443": false, "[::]:443": false, "unix:/run/inbox.sock": false, "localhost:443": false,
	} {
		e := &examination{Config: Config{Bind: bind}}
		if got := e.onlyIPv4(); got != want {
			t.Errorf("onlyIPv4 with -bind %s = %v, want %v", bind, got, want)
		}
	}
}

func TestIsLetsEncrypt(t *testing.T) {
	for url, want := range map[string]bool{
		acme.LetsEncrypt: true, acme.LetsEncryptStaging: true,
		"https://localhost/directory": false, "https://api.letsencrypt.org.example.net/directory": false, ":": false,
	} {
		if got := isLetsEncrypt(url); got != want {
			t.Errorf("isLetsEncrypt(%s) = %v, want %v", url, got, want)
		}
	}
}

// A truncated response over UDP is followed by a query over TCP.
func TestLookupsGoOverTCP(t *testing.T) {
	z := newFakeDNS(t)
	z.add("www.example.net. 60 IN A 203.0.113.5")
	z.truncateUDP = true
	z.serve()
	addrs, err := z.client().LookupNetIP(t.Context(), "ip", "www.example.net")
	if err != nil || joinAddrs(addrs) != "203.0.113.5" {
		t.Errorf("got %v, %v", addrs, err)
	}
}

func TestLookupsTruncatedOverTCP(t *testing.T) {
	z := newFakeDNS(t)
	z.truncateUDP, z.truncateTCP = true, true
	z.serve()
	if _, err := z.client().LookupCAA(t.Context(), "example.net"); err == nil || !strings.Contains(err.Error(), "over TCP too") {
		t.Errorf("got %v", err)
	}
}

// When a server is down the next one is queried.
func TestLookupsAskTheNextServer(t *testing.T) {
	z, down := newFakeDNS(t), newFakeDNS(t)
	z.add("www.example.net. 60 IN AAAA 2001:db8::1")
	z.serve()
	down.servers[0].PacketConn.Close()
	c := dnsClient{[]string{down.addr, z.addr}, time.Second}
	addrs, err := c.LookupNetIP(t.Context(), "ip", "www.example.net")
	if err != nil || joinAddrs(addrs) != "2001:db8::1" {
		t.Errorf("got %v, %v", addrs, err)
	}
}

// A server that does not respond costs its timeout, no more.
func TestLookupsEnd(t *testing.T) {
	silent := newFakeDNS(t) // bound, but never read
	c := dnsClient{[]string{silent.addr}, 20 * time.Millisecond}
	began := time.Now()
	if _, err := c.LookupCAA(t.Context(), "example.net"); err == nil {
		t.Error("got a response from a silent server")
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v, want less than 2s", took)
	}
}

func TestSystemResolver(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("# comment\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, isClient := systemResolver(file).(dnsClient)
	if !isClient || strings.Join(c.servers, " ") != "192.0.2.53:53 [2001:db8::53]:53" || c.timeout != dnsTimeout {
		t.Errorf("got %+v", c)
	}
}

// A failed lookup is a warning.
func TestDoctorWithoutDNSServers(t *testing.T) {
	s := newTestEnv(t)
	without := systemResolver(filepath.Join(t.TempDir(), "none"))
	s.resolver = splitResolver{s.zone.client(), without}
	s.expectFinding(expect{"caa", Warning, "no DNS server in /etc/resolv.conf", "CAs refuse to issue"})
}

// splitResolver uses one resolver for addresses and another for CAA records.
type splitResolver struct {
	dnsClient
	caa resolver
}

func (h splitResolver) LookupCAA(ctx context.Context, name string) ([]caaRecord, error) {
	return h.caa.LookupCAA(ctx, name)
}
