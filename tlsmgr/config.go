package tlsmgr

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"golang.org/x/net/idna"

	"inbox/internal/atomicfile"
)

// ErrUsage is wrapped by errors about a configuration that contradicts itself or
// requires something the engine does not support.
var ErrUsage = errors.New("invalid configuration")

// The ACME engines.
const (
	CertMagic = "certmagic"
	Autocert  = "autocert"
)

const (
	// LetsEncrypt is the directory URL of the default CA, and LetsEncryptStaging
	// that of its staging environment.
	LetsEncrypt        = certmagic.LetsEncryptProductionCA
	LetsEncryptStaging = certmagic.LetsEncryptStagingCA
)

// ACME configures the CA that issues the certificates, and how it can reach the
// server for challenges.
type ACME struct {
	// Engine is [CertMagic] or [Autocert]; empty means CertMagic. Autocert supports
	// no IP addresses, profiles, fallback CA or renewal information (ARI).
	Engine string
	// Email is the contact address of the account. Email or Agreed is required;
	// either states that the operator accepts the CA's terms of service.
	Email  string
	Agreed bool
	// CA is the primary CA; without a URL it is Let's Encrypt. FallbackCA is used
	// when an order at the primary CA fails; without a URL it is disabled.
	CA, FallbackCA CA
	// Staging uses the staging environment of Let's Encrypt, whose certificates
	// browsers do not trust.
	Staging bool
	// StagingFirst makes the first order for a name at StagingCA. A failure there,
	// such as a blocked port, does not count against the rate limits of the
	// production CA. It has an effect only with Let's Encrypt or a StagingCA.
	StagingFirst bool
	// StagingCA is the CA for StagingFirst and for dry runs. Without a URL it is
	// the staging environment of Let's Encrypt if CA is Let's Encrypt, else none.
	StagingCA CA
	// Profile is the certificate profile to request. Empty means the CA's default,
	// and "shortlived" for IP addresses if the CA offers it.
	Profile string
	// WaitForAddress delays the order for a name until the name has an address in
	// the DNS. Resolver looks it up; nil means net.DefaultResolver.
	WaitForAddress bool
	Resolver       *net.Resolver

	// ListenHost is the address of the listeners, without a port; empty means all
	// addresses.
	ListenHost string
	// HTTPPort and TLSPort are the ports of the listeners; 0 means 80 and 443. CAs
	// always connect to 80 and 443, so other ports require port forwarding.
	HTTPPort, TLSPort int
	// NoHTTP and NoTLS declare that the CA cannot reach that listener. At most one
	// of the two can be set.
	NoHTTP, NoTLS bool
}

// CA configures an ACME certificate authority (RFC 8555).
type CA struct {
	// URL is the directory URL.
	URL string
	// RootsFile holds the PEM root certificates that verify the CA's own HTTPS
	// server; empty means the system roots.
	RootsFile string
	// EABKeyID and EABKeyFile bind the ACME account to an existing account at the
	// CA (external account binding). The file holds the MAC key in base64url.
	EABKeyID, EABKeyFile string
}

// settings is a validated [Config].
type settings struct {
	Config
	names           []string
	cas             []*caClient // the primary CA, then the fallback CA
	stagingCA       *caClient   // for staging orders and dry runs; nil if none
	publiclyTrusted bool        // browsers can trust the certificates
}

func usageErrorf(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrUsage, fmt.Sprintf(format, a...))
}

func resolveConfig(c Config) (*settings, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &settings{Config: c, publiclyTrusted: !c.ACME.Staging && c.ACME.CA.URL != LetsEncryptStaging}
	for _, step := range []func() error{s.resolveEngine, s.checkTerms, s.resolvePorts, s.resolveCAs, s.resolveNames} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *settings) resolveEngine() error {
	a := &s.ACME
	switch {
	case a.Engine == "":
		a.Engine = CertMagic
	case a.Engine != CertMagic && a.Engine != Autocert:
		return usageErrorf("unknown ACME engine %q; use %s or %s", a.Engine, CertMagic, Autocert)
	case a.Engine == Autocert && a.Profile != "":
		return usageErrorf("autocert does not support certificate profiles; use %s", CertMagic)
	case a.Engine == Autocert && a.FallbackCA.URL != "":
		return usageErrorf("autocert does not support a fallback CA; use %s", CertMagic)
	}
	return nil
}

func (s *settings) checkTerms() error {
	if !s.ACME.Agreed && s.ACME.Email == "" {
		return usageErrorf("the CA requires agreement to its terms of service; give an e-mail address, or agree without one")
	}
	if strings.ContainsAny(s.ACME.Email, " ,<>:/") || s.ACME.Email != "" && !strings.Contains(s.ACME.Email, "@") {
		return usageErrorf("invalid e-mail address %q; use the form me@example.org", s.ACME.Email)
	}
	return nil
}

// resolvePorts checks that the CA can reach a listener and sets default ports.
func (s *settings) resolvePorts() error {
	a := &s.ACME
	if a.NoHTTP && a.NoTLS {
		return usageErrorf("the CA can reach neither port 80 nor port 443; open at least one of them")
	}
	if a.Engine == Autocert && a.NoTLS {
		return usageErrorf("autocert always tries port 443 first, where each failure counts against the CA's limits; use %s", CertMagic)
	}
	if a.HTTPPort == 0 {
		a.HTTPPort = 80
	}
	if a.TLSPort == 0 {
		a.TLSPort = 443
	}
	return nil
}

func (s *settings) resolveCAs() error {
	a := &s.ACME
	if a.CA.URL != "" && a.Staging {
		return usageErrorf("both a CA and Let's Encrypt staging are configured; choose one")
	}
	if a.CA.URL == "" {
		a.CA.URL = LetsEncrypt
		if a.Staging {
			a.CA.URL = LetsEncryptStaging
		}
	}
	if a.FallbackCA.URL == a.CA.URL {
		return usageErrorf("the fallback CA is the same as the primary CA")
	}
	for _, described := range []CA{a.CA, a.FallbackCA} {
		if described.URL == "" {
			continue
		}
		ca, err := newCAClient(described)
		if err != nil {
			return err
		}
		s.cas = append(s.cas, ca)
	}
	return s.resolveStagingCA()
}

func (s *settings) resolveStagingCA() (err error) {
	staging := s.ACME.StagingCA
	if staging.URL == "" && s.ACME.CA.URL == LetsEncrypt {
		staging.URL = LetsEncryptStaging
	}
	if staging.URL != "" {
		s.stagingCA, err = newCAClient(staging)
	}
	return err
}

// challengeCAs returns the CAs whose challenges are answered: every CA at which this
// process or another one can order, the staging CA last.
func (s *settings) challengeCAs() []*caClient {
	if s.stagingCA == nil {
		return s.cas
	}
	return append(s.cas[:len(s.cas):len(s.cas)], s.stagingCA)
}

// dryRunCA returns the CA for orders whose certificate is discarded: the staging CA
// if configured, else the primary CA.
func (s *settings) dryRunCA() *caClient {
	if s.stagingCA != nil {
		return s.stagingCA
	}
	return s.cas[0]
}

func (s *settings) resolveNames() error {
	for _, given := range s.Domains {
		name, err := canonicalName(given)
		if err != nil {
			return err
		}
		if err := s.checkCertifiable(name); err != nil {
			return err
		}
		if !slices.Contains(s.names, name) {
			s.names = append(s.names, name)
		}
	}
	return nil
}

// checkCertifiable rejects names that the engine or the CA does not support.
func (s *settings) checkCertifiable(name string) error {
	atLetsEncrypt := s.ACME.CA.URL == LetsEncrypt || s.ACME.CA.URL == LetsEncryptStaging
	switch {
	case isIP(name) && s.ACME.Engine == Autocert:
		return usageErrorf("autocert cannot certify the IP address %s; use %s", name, CertMagic)
	case s.ACME.Engine == Autocert && !strings.Contains(name, "."):
		return usageErrorf("autocert cannot certify %s, which has no dot; use %s", name, CertMagic)
	case atLetsEncrypt && !certmagic.SubjectQualifiesForPublicCert(name):
		return usageErrorf("no public CA certifies %s; configure a private CA", name)
	}
	return nil
}

func isIP(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

// canonicalName returns the normalized form in which names are compared: an IP
// address as netip formats it, a host name in lower-case ASCII (IDNA) without a
// trailing dot.
func canonicalName(given string) (string, error) {
	name := strings.TrimSuffix(strings.TrimSpace(given), ".")
	if ip, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil && ip.Zone() == "" {
		return ip.Unmap().String(), nil
	}
	if strings.Contains(name, "*") {
		return "", usageErrorf("%q contains a wildcard, which requires DNS challenges; list each host name", given)
	}
	ascii, err := idna.Lookup.ToASCII(name)
	if err != nil || !isHostName(ascii) {
		return "", usageErrorf("%q is not a host name; use the form example.org, without https:// or a port", given)
	}
	return ascii, nil
}

// isHostName reports whether ascii consists of valid DNS labels. It rejects a
// numeric last label: browsers parse such a name as an IPv4 address (WHATWG URL,
// host parsing), so it is a mistyped address.
func isHostName(ascii string) bool {
	labels := strings.Split(ascii, ".")
	isInvalid := func(l string) bool { return l == "" || len(l) > 63 || strings.ContainsAny(l, ":/ ") }
	last := labels[len(labels)-1]
	return len(ascii) <= 253 && !slices.ContainsFunc(labels, isInvalid) && strings.Trim(last, "0123456789") != ""
}

// caClient is a resolved [CA].
type caClient struct {
	url        string
	storageKey string // the URL as a file name
	roots      *x509.CertPool
	eabKeyID   string
	eabKey     []byte
	httpClient *http.Client
}

func newCAClient(a CA) (*caClient, error) {
	u, err := url.Parse(a.URL)
	if err == nil && u.User != nil { // would appear in logs and file names
		return nil, usageErrorf("the directory URL of %s contains a user name or password; ACME accounts use keys", u.Host)
	}
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && certmagic.SubjectIsInternal(u.Host)) {
		return nil, usageErrorf("%q is not an ACME directory URL; use the form https://ca.example.org/directory", a.URL)
	}
	ca := &caClient{url: a.URL, eabKeyID: a.EABKeyID}
	ca.storageKey = certmagic.StorageKeys.Safe(strings.Trim(u.Host+"-"+strings.ReplaceAll(strings.Trim(u.Path, "/"), "/", "-"), "-"))
	if (a.EABKeyID == "") != (a.EABKeyFile == "") {
		return nil, usageErrorf("external account binding requires a key ID and a key file; give both")
	}
	if ca.roots, err = readRoots(a.RootsFile); err != nil {
		return nil, err
	}
	if ca.eabKey, err = readEABKey(a.EABKeyFile); err != nil {
		return nil, err
	}
	ca.httpClient = newHTTPClient(ca.roots)
	return ca, nil
}

func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := atomicfile.Read(path, maxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read CA root certificates: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read CA root certificates: %s contains no PEM certificate", path)
	}
	return roots, nil
}

func readEABKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	text, err := atomicfile.Read(path, maxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read EAB key: %w", err)
	}
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(string(text)), "="))
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("read EAB key: %s does not contain a base64url MAC key", path)
	}
	return key, nil
}

// shortLivedProfile is the profile for IP addresses of Let's Encrypt and Pebble.
const shortLivedProfile = "shortlived"

// caRequestTimeout bounds one request to a CA.
const caRequestTimeout = 10 * time.Second
