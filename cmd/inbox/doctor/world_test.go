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
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zone is a DNS server on loopback, over UDP and TCP.
type zone struct {
	t       *testing.T
	addr    string
	servers []*dns.Server
	records map[string][]dns.RR // by «name. TYPE»
	rcode   map[string]int      // by the same, or by type alone
	cut     bool                // UDP answers are truncated
	cutTCP  bool
}

func newZone(t *testing.T) *zone {
	t.Helper()
	z := &zone{t: t, records: map[string][]dns.RR{}, rcode: map[string]int{}}
	udp, tcp := samePort(t)
	z.addr = udp.LocalAddr().String()
	z.servers = []*dns.Server{{PacketConn: udp, Handler: z}, {Listener: tcp, Handler: z}}
	return z
}

// samePort opens one port for UDP and TCP: the system chooses for TCP, and now
// and then somebody has the other.
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

// serve begins to answer; until then nothing races with the test.
func (z *zone) serve() {
	for _, s := range z.servers {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		go s.ActivateAndServe()
		<-ready
		z.t.Cleanup(func() { s.Shutdown() })
	}
}

func (z *zone) client() dnsClient { return dnsClient{[]string{z.addr}, time.Second} }

// add adds a record in the notation of zone files.
func (z *zone) add(record string) {
	z.t.Helper()
	r, err := dns.NewRR(record)
	if err != nil {
		z.t.Fatal(err)
	}
	key := r.Header().Name + " " + dns.TypeToString[r.Header().Rrtype]
	z.records[key] = append(z.records[key], r)
}

// caa adds a CAA record.
func (z *zone) caa(name string, flag int, tag, value string) {
	z.t.Helper()
	z.add(fmt.Sprintf("%s. 60 IN CAA %d %s %q", name, flag, tag, value))
}

// forget removes all records.
func (z *zone) forget() { clear(z.records) }

func (z *zone) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	q := question.Question[0]
	kind := dns.TypeToString[q.Qtype]
	answer := new(dns.Msg).SetReply(question)
	_, overTCP := w.RemoteAddr().(*net.TCPAddr)
	switch rcode, wrong := z.rcode[kind]; {
	case wrong:
		answer.Rcode = rcode
	case z.cut && !overTCP, z.cutTCP && overTCP:
		answer.Truncated = true
	default:
		name := q.Name
		if alias := z.records[name+" CNAME"]; alias != nil {
			answer.Answer = append(answer.Answer, alias[0])
			name = alias[0].(*dns.CNAME).Target
		}
		answer.Answer = append(answer.Answer, z.records[name+" "+kind]...)
	}
	w.WriteMsg(answer)
}

// fakeCA is an ACME server that has a directory and nothing else.
type fakeCA struct {
	*httptest.Server
	status int
	body   string // instead of the directory
	date   func() time.Time
	own    issued
	plain  bool // no TLS
	down   bool
	second []string // the CA's identities when asked as localhost, in place of its own
	directory
}

func newFakeCA(t *testing.T, own issued) *fakeCA {
	t.Helper()
	ca := &fakeCA{status: http.StatusOK, date: time.Now, own: own}
	ca.NewNonce, ca.NewAccount, ca.NewOrder = "https://localhost/nonce", "https://localhost/account", "https://localhost/order"
	ca.Meta.CAAIdentities = []string{"CA.example"}
	ca.Server = httptest.NewUnstartedServer(ca)
	ca.Config.ErrorLog = quiet()
	return ca
}

func (ca *fakeCA) serve(t *testing.T) {
	switch {
	case ca.down:
		ca.Listener.Close()
		return
	case ca.plain:
		ca.Start()
	default:
		ca.TLS = &tls.Config{Certificates: []tls.Certificate{ca.own.Certificate}}
		ca.StartTLS()
	}
	t.Cleanup(ca.Close)
}

func (ca *fakeCA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header()["Date"] = nil // none
	if ca.date != nil {
		w.Header().Set("Date", ca.date().UTC().Format(http.TimeFormat))
	}
	w.WriteHeader(ca.status)
	if ca.body != "" {
		w.Write([]byte(ca.body))
		return
	}
	d := ca.directory
	if ca.second != nil && r.Host == "localhost" {
		d.Meta.CAAIdentities = ca.second
	}
	json.NewEncoder(w).Encode(d)
}

// issued is a certificate with its key.
type issued struct{ tls.Certificate }

// term is when a certificate is valid; zero: from yesterday, for a hundred days.
type term struct{ from, to time.Time }

// issue makes a certificate for the names, signed by the parent, or by itself.
func issue(t *testing.T, parent *issued, when term, names ...string) issued {
	t.Helper()
	if when.from.IsZero() {
		when = term{time.Now().Add(-24 * time.Hour), time.Now().Add(100 * 24 * time.Hour)}
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
	return issued{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}
}

// sign makes a certificate for the names, each a subject alternative name.
func (i issued) sign(t *testing.T, when term, names ...string) issued {
	t.Helper()
	return issue(t, &i, when, append([]string{"leaf"}, names...)...)
}

// intermediate makes a certificate that may sign others.
func (i issued) intermediate(t *testing.T) issued {
	t.Helper()
	between := issue(t, nil, term{}, "between")
	template := *between.Leaf
	der, err := x509.CreateCertificate(rand.Reader, &template, i.Leaf, between.Leaf.PublicKey, i.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if between.Leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	between.Certificate.Certificate = [][]byte{der}
	return between
}

func (i issued) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(i.Leaf)
	return pool
}

// write writes certificate and key as PEM.
func (i issued) write(t *testing.T, certFile, keyFile string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, certFile, "CERTIFICATE", i.Certificate.Certificate[0])
	writePEM(t, keyFile, "PRIVATE KEY", der)
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
