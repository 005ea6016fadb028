package tlsmgr

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"inbox/internal/atomicfile"
	"inbox/internal/privatefile"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/timeout"
)

const (
	// selfSignedFile holds both certificate and key, so that one rename replaces
	// them together.
	selfSignedFile = "selfsigned.pem"
	// selfSignedLifetime is below the 398 days that browsers and the 825 days that
	// Apple systems accept from an installed certificate.
	selfSignedLifetime = 365 * 24 * time.Hour
	// selfSignedCheckInterval is how often the age and the host names are checked.
	selfSignedCheckInterval = time.Hour
	// maxNames bounds the DNS names and the IP addresses, including those of
	// earlier networks, each.
	maxNames = 64
)

// selfSigned creates and serves a self-signed certificate. Browsers remember an
// accepted warning only for the same certificate, so it is stored and reused.
type selfSigned struct {
	path       string // empty: memory only
	log        *slog.Logger
	localNames func() certNames
	now        func() time.Time
	current    atomic.Pointer[tls.Certificate]

	mu      sync.Mutex // serializes refresh
	lastErr error
}

func newSelfSigned(c Config) (*selfSigned, error) {
	s := &selfSigned{log: c.Logger, localNames: localCertNames, now: time.Now}
	if c.StateDir != "" {
		s.path = filepath.Join(c.StateDir, selfSignedFile)
	}
	if err := s.loadOrMake(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *selfSigned) loadOrMake() error {
	saved := s.load()
	if saved != nil {
		s.current.Store(saved)
	}
	if err := s.refresh(); err != nil {
		return err
	}
	leaf := s.current.Load().Leaf
	s.log.Info("certificate", "source", "self-signed", "why", "no domain is configured and no certificate files exist",
		"fingerprint", Fingerprint(leaf), "notAfter", leaf.NotAfter)
	return nil
}

func (s *selfSigned) getCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.current.Load(), nil
}

func (s *selfSigned) run(ctx context.Context) { every(ctx, selfSignedCheckInterval, s.reload) }

func (s *selfSigned) reload() {
	if err := s.refresh(); err != nil {
		s.log.Error("cannot renew the self-signed certificate", "err", err)
	}
}

func (s *selfSigned) state() []NameState {
	s.mu.Lock()
	defer s.mu.Unlock()
	leaf := s.current.Load().Leaf
	return statesOf(leaf, "self-signed", s.lastErr, selfSignedRenewAt(leaf))
}

// refresh creates a new certificate if one is needed.
func (s *selfSigned) refresh() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	want := s.localNames()
	why := s.reasonLocked(want)
	if why == "" {
		return nil
	}
	cert, bundle, err := makeSelfSigned(want.union(s.namesLocked()), s.now())
	if s.lastErr = err; err != nil {
		return fmt.Errorf("create self-signed certificate: %w", err)
	}
	s.current.Store(cert)
	s.log.Info("self-signed certificate created", "why", why)
	s.saveLocked(bundle)
	return nil
}

// reasonLocked returns why a new certificate is needed, or "".
func (s *selfSigned) reasonLocked(want certNames) string {
	cert := s.current.Load()
	switch {
	case cert == nil:
		return "no valid certificate"
	case s.now().After(selfSignedRenewAt(cert.Leaf)):
		return "the previous certificate expires soon"
	case !want.coveredBy(cert.Leaf):
		return "the host has a new name or address"
	}
	return ""
}

// selfSignedRenewAt returns when a third of the lifetime is left.
func selfSignedRenewAt(leaf *x509.Certificate) time.Time {
	return leaf.NotAfter.Add(-selfSignedLifetime / 3)
}

// namesLocked returns the names of the current certificate. A new certificate
// includes them, so that a laptop that moves between two networks keeps one
// certificate.
func (s *selfSigned) namesLocked() certNames {
	cert := s.current.Load()
	if cert == nil {
		return certNames{}
	}
	return certNames{cert.Leaf.DNSNames, cert.Leaf.IPAddresses}
}

// saveLocked stores the certificate for the next start. A failure is logged and shown
// in State, and the certificate is served.
func (s *selfSigned) saveLocked(bundle []byte) {
	if s.path == "" {
		return
	}
	_, err := timeout.Call(diskTimeout, func() (any, error) { return nil, atomicfile.Write(s.path, bundle) })
	if err != nil {
		s.lastErr = err
		s.log.Warn("cannot save the self-signed certificate; the next start creates another one", "err", err)
	}
}

// load returns the stored certificate, or nil if it is missing or invalid.
func (s *selfSigned) load() *tls.Certificate {
	if s.path == "" {
		return nil
	}
	cert, err := timeout.Call(diskTimeout, s.read)
	if err == nil {
		return cert
	}
	if !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("ignoring the stored self-signed certificate", "file", s.path, "err", err)
	}
	return nil
}

// read returns the stored certificate if it is valid.
func (s *selfSigned) read() (*tls.Certificate, error) {
	bundle, err := privatefile.Read(s.path, certs.MaxFileBytes)
	if err != nil {
		return nil, err
	}
	cert, err := certs.Parse(bundle, bundle)
	if err != nil {
		return nil, err
	}
	return cert, certs.CheckValidity(cert.Leaf, s.now())
}

func makeSelfSigned(n certNames, now time.Time) (*tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template, err := selfSignedTemplate(n, now)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	bundle, err := encodePEM(der, key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := certs.Parse(bundle, bundle)
	return cert, bundle, err
}

func selfSignedTemplate(n certNames, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "inbox, self-signed"},
		// One hour of tolerance for clients whose clock is behind.
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(selfSignedLifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              n.dns,
		IPAddresses:           n.ips,
	}, nil
}

func encodePEM(der []byte, key *ecdsa.PrivateKey) ([]byte, error) {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	b.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	return b.Bytes(), nil
}

// certNames holds the subject alternative names of a certificate.
type certNames struct {
	dns []string
	ips []net.IP
}

// localCertNames returns the names and addresses under which clients on this host and
// on its networks reach it. Values that cannot be determined are omitted.
func localCertNames() certNames {
	n := certNames{[]string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
	if host, err := os.Hostname(); err == nil && validHost(host) {
		n.add([]string{host}, nil)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return n
	}
	for _, a := range addrs {
		if p, ok := a.(*net.IPNet); ok && (p.IP.IsGlobalUnicast() || p.IP.IsLoopback()) {
			n.add(nil, []net.IP{p.IP})
		}
	}
	return n
}

// validHost reports whether x509 can encode the host name: printable ASCII, no spaces.
func validHost(host string) bool {
	ascii := !slices.ContainsFunc([]byte(host), func(b byte) bool { return b <= ' ' || b >= 0x7f })
	return host != "" && ascii
}

// union returns the names of n followed by those of more, up to maxNames of each kind.
func (n certNames) union(more certNames) certNames {
	sum := certNames{slices.Clone(n.dns), slices.Clone(n.ips)}
	sum.add(more.dns, more.ips)
	return sum
}

func (n *certNames) add(dns []string, ips []net.IP) {
	for _, d := range dns {
		if len(n.dns) < maxNames && !slices.Contains(n.dns, d) {
			n.dns = append(n.dns, d)
		}
	}
	for _, ip := range ips {
		if len(n.ips) < maxNames && !slices.ContainsFunc(n.ips, ip.Equal) {
			n.ips = append(n.ips, ip)
		}
	}
}

// coveredBy reports whether the certificate contains all names and addresses except
// global IPv6 addresses. Privacy extensions create a new one every day, and a new
// certificate means a new browser warning.
func (n certNames) coveredBy(c *x509.Certificate) bool {
	for _, d := range n.dns {
		if !slices.Contains(c.DNSNames, d) {
			return false
		}
	}
	for _, ip := range n.ips {
		stable := ip.To4() != nil || ip.IsLoopback()
		if stable && !slices.ContainsFunc(c.IPAddresses, ip.Equal) {
			return false
		}
	}
	return true
}
