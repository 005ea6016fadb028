package tlsmgr

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"testing"
	"time"

	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/tlstest"
)

// certFor returns a certificate that expires after the given time.
func certFor(t *testing.T, name string, ends time.Duration) *tls.Certificate {
	t.Helper()
	chain, key := tlstest.MakePair(t, name, time.Now().Add(-24*time.Hour), time.Now().Add(ends))
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
		acme, manual time.Duration // time until expiry; 0: no certificate
		want         string
	}{
		{"no certificate", 0, 0, ""},
		{"valid ACME certificate first", short, long, "acme"},
		{"file when the ACME certificate has expired", -short, long, "file"},
		{"file only", 0, long, "file"},
		{"ACME when the file has expired", short, -short, "acme"},
		{"both expired, ACME later", -short, -long, "acme"},
		{"both expired, file later", -long, -short, "file"},
		{"ACME only, expired", -long, 0, "acme"},
		{"file only, expired", 0, -long, "file"},
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
				t.Errorf("got %v from %q, want a certificate from %q", cert, source, tt.want)
			}
		})
	}
}

func TestCovers(t *testing.T) {
	ip := net.ParseIP("192.0.2.1")
	for _, tt := range []struct {
		name string
		leaf x509.Certificate
		host string
		want bool
	}{
		{"exact", x509.Certificate{DNSNames: []string{"one.example"}}, "one.example", true},
		{"upper case", x509.Certificate{DNSNames: []string{"one.example"}}, "One.Example", true},
		{"other name", x509.Certificate{DNSNames: []string{"one.example"}}, "two.example", false},
		{"wildcard", x509.Certificate{DNSNames: []string{"*.example"}}, "one.example", true},
		{"wildcard matches one label", x509.Certificate{DNSNames: []string{"*.example"}}, "a.one.example", false},
		{"wildcard does not match the parent", x509.Certificate{DNSNames: []string{"*.example"}}, "example", false},
		{"IP address", x509.Certificate{IPAddresses: []net.IP{ip}}, "192.0.2.1", true},
		{"common name only", x509.Certificate{Subject: pkix.Name{CommonName: "One.Example"}}, "one.example", true},
		{"wildcard as common name", x509.Certificate{Subject: pkix.Name{CommonName: "*.example"}}, "one.example", true},
		{"common name with alternative names", x509.Certificate{Subject: pkix.Name{CommonName: "one.example"}, DNSNames: []string{"two.example"}}, "one.example", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Covers(&tt.leaf, tt.host); got != tt.want {
				t.Errorf("Covers(%s) = %v, want %v", tt.host, got, tt.want)
			}
		})
	}
}

// localAddrConn is a connection with the given local address.
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
		{"upper case", []string{"one.example"}, "One.Example", "192.0.2.1:443", "one.example"},
		{"trailing dot", []string{"one.example"}, "one.example.", "192.0.2.1:443", "one.example"},
		{"unknown", []string{"one.example"}, "two.example", "192.0.2.1:443", ""},
		{"no SNI, no IP address configured", []string{"one.example"}, "", "192.0.2.1:443", ""},
		{"no SNI, one of two IP addresses", []string{"192.0.2.1", "192.0.2.2"}, "", "192.0.2.2:443", "192.0.2.2"},
		{"no SNI, dual-stack socket", []string{"192.0.2.1", "192.0.2.2"}, "", "[::ffff:192.0.2.2]:443", "192.0.2.2"},
		{"no SNI, NAT, one IP address", []string{"one.example", "192.0.2.1"}, "", "10.0.0.1:443", "192.0.2.1"},
		{"no SNI, NAT, two IP addresses", []string{"192.0.2.1", "192.0.2.2"}, "", "10.0.0.1:443", ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			hello := &tls.ClientHelloInfo{ServerName: tt.sni, Conn: localAddrConn{addr: tt.local}}
			if got := newCertTable(tt.names).requestedName(hello); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// New files that cover fewer names leave the other names unchanged.
func TestCertTableFilesForFewerNames(t *testing.T) {
	c := newCertTable([]string{"one.example", "two.example"})
	both, one := certFor(t, "*.example", time.Hour), certFor(t, "one.example", 2*time.Hour)
	c.setStatic(both)
	c.setStatic(one)
	for name, want := range map[string]*tls.Certificate{"one.example": one, "two.example": both} {
		if got, source := c.pick(name, time.Now()); got != want || source != "file" {
			t.Errorf("%s: got a certificate from %q, want the file certificate for %v", name, source, certs.Names(want.Leaf))
		}
	}
}
