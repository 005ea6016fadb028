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

// ErrUsage is wrapped by each error of a configuration that contradicts itself
// or asks for what an engine cannot do: the person who wrote it must choose.
var ErrUsage = errors.New("cannot be configured like this")

// The two engines.
const (
	CertMagic = "certmagic"
	Autocert  = "autocert"
)

const (
	// LetsEncrypt and LetsEncryptStaging are the directories of the authority
	// that is asked unless another one is named, and of its place for tests.
	LetsEncrypt        = certmagic.LetsEncryptProductionCA
	LetsEncryptStaging = certmagic.LetsEncryptStagingCA
)

// ACME says which authority certifies the domains, and how it reaches us.
type ACME struct {
	// Engine is [CertMagic], also when empty, or [Autocert], which knows no IP
	// addresses, no profiles, no second authority and no renewal information.
	Engine string
	// Email is the account's contact. Agreed or an e-mail is required: either
	// says that the authority's terms were read and accepted.
	Email  string
	Agreed bool
	// CA is asked first; without a URL it is Let's Encrypt. Second is asked
	// when that one fails; without a URL there is none.
	CA, FallbackCA CA
	// Staging asks Let's Encrypt's staging place instead, whose certificates no
	// browser trusts.
	Staging bool
	// StagingFirst makes the first order for a name there, so that a firewall in
	// the way costs none of the few failures that production allows. It matters
	// only with Let's Encrypt, or when Trial is set.
	StagingFirst bool
	// StagingCA is where StagingFirst orders; without a URL, Let's Encrypt's staging.
	StagingCA CA
	// Profile is asked for by name. Empty: the authority's default, and
	// "shortlived" for IP addresses where the authority lists that.
	Profile string
	// WaitForAddress waits with the order for a name until the name has an address.
	// Resolver looks it up; nil: the system's.
	WaitForAddress bool
	Resolver       *net.Resolver

	// ListenHost is the address of our listeners, without a port; empty: all.
	ListenHost string
	// HTTPPort and TLSPort are where our listeners are; 0 is 80 and 443. The
	// authority always connects to 80 and 443, so other ports need a forwarder.
	HTTPPort, TLSPort int
	// NoHTTP and NoTLS say that the authority cannot reach that listener. One
	// of the two must be left.
	NoHTTP, NoTLS bool
}

// CA is a certificate authority that speaks ACME.
type CA struct {
	// URL is its directory.
	URL string
	// RootsFile holds the PEM certificates that its own server is trusted by;
	// empty: the system's.
	RootsFile string
	// EABKeyID and EABKeyFile bind our account to one that exists with it already;
	// the file holds the MAC key in base64url.
	EABKeyID, EABKeyFile string
}

// settings is a checked [Config].
type settings struct {
	Config
	names           []string
	cas             []*caClient // in the order in which they are asked
	stagingCA       *caClient   // where orders are tried out; nil: nowhere
	publiclyTrusted bool        // certificates are meant to be trusted
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
		return usageErrorf("the engine %q is unknown; use %s or %s", a.Engine, CertMagic, Autocert)
	case a.Engine == Autocert && a.Profile != "":
		return usageErrorf("autocert cannot ask for a profile; use %s", CertMagic)
	case a.Engine == Autocert && a.FallbackCA.URL != "":
		return usageErrorf("autocert cannot ask a second authority; use %s", CertMagic)
	}
	return nil
}

func (s *settings) checkTerms() error {
	if !s.ACME.Agreed && s.ACME.Email == "" {
		return usageErrorf("the authority has terms to be agreed to; give your e-mail address, or say that you agree")
	}
	if strings.ContainsAny(s.ACME.Email, " ,<>:/") || s.ACME.Email != "" && !strings.Contains(s.ACME.Email, "@") {
		return usageErrorf("%q is no e-mail address; write one, like me@example.org", s.ACME.Email)
	}
	return nil
}

// resolvePorts settles where the authority may come in.
func (s *settings) resolvePorts() error {
	a := &s.ACME
	if a.NoHTTP && a.NoTLS {
		return usageErrorf("the authority can reach neither port 80 nor port 443; open one")
	}
	if a.Engine == Autocert && a.NoTLS {
		return usageErrorf("autocert always tries port 443 first, and each try that fails counts with the authority; use %s", CertMagic)
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
		return usageErrorf("an authority is named, and Let's Encrypt's staging asked for; choose one")
	}
	if a.CA.URL == "" {
		a.CA.URL = LetsEncrypt
		if a.Staging {
			a.CA.URL = LetsEncryptStaging
		}
	}
	if a.FallbackCA.URL == a.CA.URL {
		return usageErrorf("the second authority is the same as the first")
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

// challengeCAs are the authorities whose challenges are answered: all that may be
// asked, here or by another process, those of the certificates first.
func (s *settings) challengeCAs() []*caClient {
	if s.stagingCA == nil {
		return s.cas
	}
	return append(s.cas[:len(s.cas):len(s.cas)], s.stagingCA)
}

// dryRunCA is where an order is made that is to bring nothing: at the place for
// trials when there is one, else at the authority itself.
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

// checkCertifiable refuses what an authority would refuse, before it is asked.
func (s *settings) checkCertifiable(name string) error {
	atLetsEncrypt := s.ACME.CA.URL == LetsEncrypt || s.ACME.CA.URL == LetsEncryptStaging
	switch {
	case isIP(name) && s.ACME.Engine == Autocert:
		return usageErrorf("autocert cannot certify the IP address %s; use %s", name, CertMagic)
	case s.ACME.Engine == Autocert && !strings.Contains(name, "."):
		return usageErrorf("autocert cannot certify %s, which has no dot; use %s", name, CertMagic)
	case atLetsEncrypt && !certmagic.SubjectQualifiesForPublicCert(name):
		return usageErrorf("no public authority certifies %s; name your own authority", name)
	}
	return nil
}

func isIP(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

// canonicalName writes a name in the one way in which it is compared: an address
// as netip writes it, all else in lower case, in ASCII, without a final dot.
func canonicalName(given string) (string, error) {
	name := strings.TrimSuffix(strings.TrimSpace(given), ".")
	if ip, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil && ip.Zone() == "" {
		return ip.Unmap().String(), nil
	}
	if strings.Contains(name, "*") {
		return "", usageErrorf("%q has a wildcard, which authorities certify only over DNS; name each host", given)
	}
	ascii, err := idna.Lookup.ToASCII(name)
	if err != nil || !isHostName(ascii) {
		return "", usageErrorf("%q is no host name; write it like example.org, without https:// and port", given)
	}
	return ascii, nil
}

// isHostName is true for labels between dots, as the DNS has them. One that ends
// in a number is taken for an address by browsers (WHATWG URL, host parsing), and
// was meant to be one.
func isHostName(ascii string) bool {
	labels := strings.Split(ascii, ".")
	isInvalid := func(l string) bool { return l == "" || len(l) > 63 || strings.ContainsAny(l, ":/ ") }
	last := labels[len(labels)-1]
	return len(ascii) <= 253 && !slices.ContainsFunc(labels, isInvalid) && strings.Trim(last, "0123456789") != ""
}

// caClient is a resolved [CA].
type caClient struct {
	url        string
	storageKey string // the URL as a name of files
	roots      *x509.CertPool
	eabKeyID   string
	eabKey     []byte
	httpClient *http.Client
}

func newCAClient(a CA) (*caClient, error) {
	u, err := url.Parse(a.URL)
	if err == nil && u.User != nil { // it would stand in logs and in names of files
		return nil, usageErrorf("the directory of the authority %s has a name or password in it; authorities know accounts by their keys", u.Host)
	}
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && certmagic.SubjectIsInternal(u.Host)) {
		return nil, usageErrorf("%q is no directory of an authority; write it like https://ca.example.org/directory", a.URL)
	}
	ca := &caClient{url: a.URL, eabKeyID: a.EABKeyID}
	ca.storageKey = certmagic.StorageKeys.Safe(strings.Trim(u.Host+"-"+strings.ReplaceAll(strings.Trim(u.Path, "/"), "/", "-"), "-"))
	if (a.EABKeyID == "") != (a.EABKeyFile == "") {
		return nil, usageErrorf("an account that exists already has a key id and a key; give both")
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
		return nil, fmt.Errorf("read the authority's root certificates: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read the authority's root certificates: %s holds none in PEM format", path)
	}
	return roots, nil
}

func readEABKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	text, err := atomicfile.Read(path, maxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read the account's MAC key: %w", err)
	}
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(string(text)), "="))
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("read the account's MAC key: %s holds no key in base64url", path)
	}
	return key, nil
}

// shortLivedProfile is the profile of Let's Encrypt, and of Pebble, for IP addresses.
const shortLivedProfile = "shortlived"

// caRequestTimeout bounds one request to an authority.
const caRequestTimeout = 10 * time.Second
