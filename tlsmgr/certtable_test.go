package tlsmgr

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"testing"
	"time"
)

// certFor is a certificate that ends at a time counted from now.
func certFor(t *testing.T, name string, ends time.Duration) *tls.Certificate {
	t.Helper()
	chain, key := makePair(t, name, time.Now().Add(-24*time.Hour), time.Now().Add(ends))
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return &cert
}

func TestCertTablePick(t *testing.T) {
	const name = "one.example"
	long, short := time.Hour, time.Minute
	for _, tt := range []struct {
		why          string
		acme, manual time.Duration // when they end; 0: there is none
		want         string
	}{
		{"nothing", 0, 0, ""},
		{"the authority's while it is valid", short, long, "acme"},
		{"the files' when the authority's has ended", -short, long, "file"},
		{"the files' when there is no other", 0, long, "file"},
		{"the authority's when the files' has ended", short, -short, "acme"},
		{"both ended: the authority's was longer", -short, -long, "acme"},
		{"both ended: the files' was longer", -long, -short, "file"},
		{"only one, ended", -long, 0, "acme"},
		{"only the files', ended", 0, -long, "file"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			c := newCertTable([]string{name})
			if tt.acme != 0 {
				c.setACME(name, certFor(t, name, tt.acme))
			}
			if tt.manual != 0 {
				c.setStatic(certFor(t, name, tt.manual))
			}
			cert, source := c.pick(name, time.Now())
			if source != tt.want || (cert == nil) != (tt.want == "") {
				t.Errorf("picked %v from %q, want one from %q", cert, source, tt.want)
			}
		})
	}
}

func TestCovers(t *testing.T) {
	ip := net.ParseIP("192.0.2.1")
	for _, tt := range []struct {
		name string
		leaf x509.Certificate
		asks string
		want bool
	}{
		{"exact", x509.Certificate{DNSNames: []string{"one.example"}}, "one.example", true},
		{"another", x509.Certificate{DNSNames: []string{"one.example"}}, "two.example", false},
		{"wildcard", x509.Certificate{DNSNames: []string{"*.example"}}, "one.example", true},
		{"wildcard is one label", x509.Certificate{DNSNames: []string{"*.example"}}, "a.one.example", false},
		{"wildcard is not the parent", x509.Certificate{DNSNames: []string{"*.example"}}, "example", false},
		{"address", x509.Certificate{IPAddresses: []net.IP{ip}}, "192.0.2.1", true},
		{"common name alone", x509.Certificate{Subject: pkix.Name{CommonName: "One.Example"}}, "one.example", true},
		{"wildcard as common name", x509.Certificate{Subject: pkix.Name{CommonName: "*.example"}}, "one.example", true},
		{"common name beside others", x509.Certificate{Subject: pkix.Name{CommonName: "one.example"}, DNSNames: []string{"two.example"}}, "one.example", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := covers(&tt.leaf, tt.asks); got != tt.want {
				t.Errorf("covers(%s) = %v, want %v", tt.asks, got, tt.want)
			}
		})
	}
}

// localAddrConn is a connection to a local address.
type localAddrConn struct {
	net.Conn
	addr string
}

func (a localAddrConn) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(mustAddrPort(a.addr))
}

func TestCertTableName(t *testing.T) {
	for _, tt := range []struct {
		why   string
		names []string
		sni   string
		local string
		want  string
	}{
		{"configured", []string{"one.example"}, "one.example", "192.0.2.1:443", "one.example"},
		{"in capitals", []string{"one.example"}, "One.Example", "192.0.2.1:443", "one.example"},
		{"with the final dot of the DNS", []string{"one.example"}, "one.example.", "192.0.2.1:443", "one.example"},
		{"unknown", []string{"one.example"}, "two.example", "192.0.2.1:443", ""},
		{"none, and no address", []string{"one.example"}, "", "192.0.2.1:443", ""},
		{"none, at one of two addresses", []string{"192.0.2.1", "192.0.2.2"}, "", "192.0.2.2:443", "192.0.2.2"},
		{"none, on a socket for both families", []string{"192.0.2.1", "192.0.2.2"}, "", "[::ffff:192.0.2.2]:443", "192.0.2.2"},
		{"none, behind a translation, one address", []string{"one.example", "192.0.2.1"}, "", "10.0.0.1:443", "192.0.2.1"},
		{"none, behind a translation, two addresses", []string{"192.0.2.1", "192.0.2.2"}, "", "10.0.0.1:443", ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			hello := &tls.ClientHelloInfo{ServerName: tt.sni, Conn: localAddrConn{addr: tt.local}}
			if got := newCertTable(tt.names).requestedName(hello); got != tt.want {
				t.Errorf("meant %q, want %q", got, tt.want)
			}
		})
	}
}

// New files for fewer names leave the others what they had.
func TestCertTableFilesForFewerNames(t *testing.T) {
	c := newCertTable([]string{"one.example", "two.example"})
	both, one := certFor(t, "*.example", time.Hour), certFor(t, "one.example", 2*time.Hour)
	c.setStatic(both)
	c.setStatic(one)
	for name, want := range map[string]*tls.Certificate{"one.example": one, "two.example": both} {
		if got, source := c.pick(name, time.Now()); got != want || source != "file" {
			t.Errorf("%s: served from %q, want the certificate for %v", name, source, namesOf(want.Leaf))
		}
	}
}
