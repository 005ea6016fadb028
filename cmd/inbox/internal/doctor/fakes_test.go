package doctor

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"inbox/tlsmgr/acme"
)

// fakeDNS is a DNS server on loopback, over UDP and TCP.
type fakeDNS struct {
	t           *testing.T
	addr        string
	servers     []*dns.Server
	records     map[string][]dns.RR // by "name. TYPE"
	rcode       map[string]int      // by type
	truncateUDP bool
	truncateTCP bool
}

func newFakeDNS(t *testing.T) *fakeDNS {
	t.Helper()
	d := &fakeDNS{t: t, records: map[string][]dns.RR{}, rcode: map[string]int{}}
	udp, tcp := samePort(t)
	d.addr = udp.LocalAddr().String()
	d.servers = []*dns.Server{{PacketConn: udp, Handler: d}, {Listener: tcp, Handler: d}}
	return d
}

// samePort opens one port for UDP and TCP. It retries because the UDP port with
// the number of a free TCP port can be in use.
func samePort(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			t.Cleanup(func() { udp.Close(); tcp.Close() })
			return udp, tcp
		}
		tcp.Close()
	}
	t.Fatal("no port is free for UDP and TCP")
	return nil, nil
}

// serve starts the servers; until then the test can change the records.
func (d *fakeDNS) serve() {
	for _, s := range d.servers {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		go s.ActivateAndServe()
		<-ready
		d.t.Cleanup(func() { s.Shutdown() })
	}
}

func (d *fakeDNS) client() dnsClient { return dnsClient{[]string{d.addr}, time.Second} }

// add adds a record in zone file syntax.
func (d *fakeDNS) add(record string) {
	d.t.Helper()
	r, err := dns.NewRR(record)
	if err != nil {
		d.t.Fatal(err)
	}
	key := r.Header().Name + " " + dns.TypeToString[r.Header().Rrtype]
	d.records[key] = append(d.records[key], r)
}

func (d *fakeDNS) addCAA(name string, flag int, tag, value string) {
	d.t.Helper()
	d.add(fmt.Sprintf("%s. 60 IN CAA %d %s %q", name, flag, tag, value))
}

func (d *fakeDNS) reset() { clear(d.records) }

func (d *fakeDNS) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	q := question.Question[0]
	kind := dns.TypeToString[q.Qtype]
	answer := new(dns.Msg).SetReply(question)
	_, overTCP := w.RemoteAddr().(*net.TCPAddr)
	switch rcode, wrong := d.rcode[kind]; {
	case wrong:
		answer.Rcode = rcode
	case d.truncateUDP && !overTCP, d.truncateTCP && overTCP:
		answer.Truncated = true
	default:
		name := q.Name
		if alias := d.records[name+" CNAME"]; alias != nil {
			answer.Answer = append(answer.Answer, alias[0])
			name = alias[0].(*dns.CNAME).Target
		}
		answer.Answer = append(answer.Answer, d.records[name+" "+kind]...)
	}
	w.WriteMsg(answer)
}

// fakeCA is an ACME server that has only a directory.
type fakeCA struct {
	*httptest.Server
	status              int
	body                string // instead of the directory
	date                func() time.Time
	cert                testCert
	noTLS               bool
	down                bool
	localhostIdentities []string // CAA identities for the host localhost instead of its own
	acme.Directory
}

func newFakeCA(t *testing.T, cert testCert) *fakeCA {
	t.Helper()
	ca := &fakeCA{status: http.StatusOK, date: time.Now, cert: cert}
	ca.NewNonce, ca.NewAccount, ca.NewOrder = "https://localhost/nonce", "https://localhost/account", "https://localhost/order"
	ca.Meta.CAAIdentities = []string{"CA.example"}
	ca.Server = httptest.NewUnstartedServer(ca)
	ca.Config.ErrorLog = discardLogger()
	return ca
}

func (ca *fakeCA) serve(t *testing.T) {
	switch {
	case ca.down:
		ca.Listener.Close()
		return
	case ca.noTLS:
		ca.Start()
	default:
		ca.TLS = &tls.Config{Certificates: []tls.Certificate{ca.cert.Certificate}}
		ca.StartTLS()
	}
	t.Cleanup(ca.Close)
}

func (ca *fakeCA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header()["Date"] = nil // suppresses the field
	if ca.date != nil {
		w.Header().Set("Date", ca.date().UTC().Format(http.TimeFormat))
	}
	w.WriteHeader(ca.status)
	if ca.body != "" {
		w.Write([]byte(ca.body))
		return
	}
	d := ca.Directory
	if ca.localhostIdentities != nil && r.Host == "localhost" {
		d.Meta.CAAIdentities = ca.localhostIdentities
	}
	json.NewEncoder(w).Encode(d)
}

// testCert is a certificate with its key.
type testCert struct{ tls.Certificate }

// validity is a validity period; zero: from yesterday, for 101 days.
type validity struct{ from, to time.Time }

// issueCert makes a certificate signed by the parent, self-signed without one. The
// first name is the common name, the others are subject alternative names.
func issueCert(t *testing.T, parent *testCert, when validity, names ...string) testCert {
	t.Helper()
	if when.from.IsZero() {
		when = validity{time.Now().Add(-24 * time.Hour), time.Now().Add(100 * 24 * time.Hour)}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: when.from, NotAfter: when.to, DNSNames: names[1:], BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	signer, signerKey := template, crypto.Signer(key)
	if parent == nil {
		template.IsCA, template.KeyUsage, template.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
	} else {
		signer, signerKey = parent.Leaf, parent.PrivateKey.(crypto.Signer)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, key.Public(), signerKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return testCert{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}
}

// sign makes a certificate with the names as subject alternative names.
func (c testCert) sign(t *testing.T, when validity, names ...string) testCert {
	t.Helper()
	return issueCert(t, &c, when, append([]string{"leaf"}, names...)...)
}

// intermediate makes an intermediate CA certificate.
func (c testCert) intermediate(t *testing.T) testCert {
	t.Helper()
	sub := issueCert(t, nil, validity{}, "between")
	template := *sub.Leaf
	der, err := x509.CreateCertificate(rand.Reader, &template, c.Leaf, sub.Leaf.PublicKey, c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if sub.Leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	sub.Certificate.Certificate = [][]byte{der}
	return sub
}

// ca returns the options of a CA whose server has a certificate that c signed.
func (c testCert) ca(t *testing.T, url string) acme.CA {
	t.Helper()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	writePEM(t, roots, "CERTIFICATE", c.Certificate.Certificate[0])
	return acme.CA{URL: url, RootsFile: roots}
}

// withAccount adds the credentials of an external account.
func withAccount(t *testing.T, ca acme.CA) acme.CA {
	t.Helper()
	ca.EABKeyID, ca.EABKeyFile = "kid-1", filepath.Join(t.TempDir(), "mac")
	if err := os.WriteFile(ca.EABKeyFile, []byte("c2VjcmV0"), 0o600); err != nil {
		t.Fatal(err)
	}
	return ca
}

// write writes certificate and key as PEM.
func (c testCert) write(t *testing.T, certFile, keyFile string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, certFile, "CERTIFICATE", c.Certificate.Certificate[0])
	writePEM(t, keyFile, "PRIVATE KEY", der)
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
