// Package acme obtains and renews certificates from CAs that speak ACME (RFC
// 8555). A [Client] runs one worker per name: it loads what is stored, asks
// package schedule whether to order, and does the I/O of an order. It does not
// speak the protocol itself: an [Engine] does, in a package of its own, and this
// package imports none.
package acme

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"inbox/tlsmgr/internal/hosts"
	"inbox/tlsmgr/storage"
)

// ErrUsage is wrapped by each error of a configuration that contradicts itself,
// or that asks for what an engine cannot do.
var ErrUsage = errors.New("cannot be configured like this")

// UsageErrorf returns an error that wraps [ErrUsage].
func UsageErrorf(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrUsage, fmt.Sprintf(format, a...))
}

// The directory URLs of Let's Encrypt. LetsEncrypt is the default CA.
const (
	LetsEncrypt        = "https://acme-v02.api.letsencrypt.org/directory"
	LetsEncryptStaging = "https://acme-staging-v02.api.letsencrypt.org/directory"
)

// Config selects a CA, and tells how it can reach the server.
type Config struct {
	// Engine speaks the protocol: certmagic.New or autocert.New. It is required.
	Engine EngineFactory
	// Email is the contact of the account. Agreed or an e-mail address is required:
	// either states that the terms of the CA were read and accepted.
	Email  string
	Agreed bool
	// CA is asked first; without a URL it is Let's Encrypt. FallbackCA is asked when
	// that one fails; without a URL it is not used.
	CA, FallbackCA CA
	// Staging selects Let's Encrypt's staging environment, whose certificates no
	// browser trusts.
	Staging bool
	// StagingFirst makes the first order for a name at StagingCA, so that a firewall
	// in the way costs none of the few failures that production allows. It has an
	// effect only with Let's Encrypt, or when StagingCA is set.
	StagingFirst bool
	// StagingCA is where StagingFirst orders; without a URL, Let's Encrypt's staging.
	StagingCA CA
	// Profile is the certificate profile to ask for. Empty: the default of the CA, and
	// "shortlived" for IP addresses if the CA lists it.
	Profile string
	// WaitForAddress postpones the order for a name until it has an address.
	// Resolver looks it up; nil: that of the system.
	WaitForAddress bool
	Resolver       *net.Resolver

	// ListenHost is the address of the server's listeners, without a port; empty: all.
	ListenHost string
	// HTTPPort and TLSPort are the ports of the listeners; 0 is 80 and 443. The CA
	// always connects to 80 and 443, so other ports need a forwarder.
	HTTPPort, TLSPort int
	// NoHTTP and NoTLS state that the CA cannot reach that listener. One of the two
	// must be reachable.
	NoHTTP, NoTLS bool
}

// CA is a certificate authority that speaks ACME.
type CA struct {
	// URL is its directory.
	URL string
	// RootsFile holds the PEM certificates that its own server is trusted by; empty:
	// those of the system.
	RootsFile string
	// EABKeyID and EABKeyFile bind the account to an existing one (external account
	// binding); the file holds the MAC key in base64url.
	EABKeyID, EABKeyFile string
}

// Settings are a resolved [Config], shared by an engine and its caller. They must not
// be changed.
type Settings struct {
	Config
	// Names are the names to certify, in canonical form.
	Names []string
	// CAs are asked in this order. StagingCA can be asked, too, but certificates of
	// it are not served; nil: none.
	CAs       []*CAClient
	StagingCA *CAClient
	// Storage holds accounts and certificates. Challenges holds the answers to
	// challenges; other processes answer the CA from it.
	Storage, Challenges storage.Storage
	Log                 *slog.Logger
}

// ChallengeCAs returns all CAs whose challenges must be answered.
func (s *Settings) ChallengeCAs() []*CAClient {
	if s.StagingCA == nil {
		return s.CAs
	}
	return append(s.CAs[:len(s.CAs):len(s.CAs)], s.StagingCA)
}

// EngineFactory makes an engine. It returns an error that wraps [ErrUsage] for
// settings that the engine does not support. It writes nothing.
type EngineFactory func(*Settings) (Engine, error)

func resolve(c Config, domains []string, log *slog.Logger) (*Settings, error) {
	s := &Settings{Config: c, Log: log}
	if c.Engine == nil {
		return nil, UsageErrorf("no ACME engine is configured")
	}
	if s.HTTPPort == 0 {
		s.HTTPPort = 80
	}
	if s.TLSPort == 0 {
		s.TLSPort = 443
	}
	for _, step := range []func() error{s.checkAccount, s.resolveCAs, func() error { return s.resolveNames(domains) }} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Settings) checkAccount() error {
	switch {
	case !s.Agreed && s.Email == "":
		return UsageErrorf("the CA requires agreement to its terms of service; give an e-mail address, or agree without one")
	case strings.ContainsAny(s.Email, " ,<>:/") || s.Email != "" && !strings.Contains(s.Email, "@"):
		return UsageErrorf("invalid e-mail address %q; use the form me@example.org", s.Email)
	case s.NoHTTP && s.NoTLS:
		return UsageErrorf("the CA can reach neither port 80 nor port 443; open at least one of them")
	}
	return nil
}

func (s *Settings) resolveCAs() error {
	if s.CA.URL != "" && s.Staging {
		return UsageErrorf("both a CA and Let's Encrypt staging are configured; choose one")
	}
	if s.CA.URL == "" {
		s.CA.URL = LetsEncrypt
		if s.Staging {
			s.CA.URL = LetsEncryptStaging
		}
	}
	if s.FallbackCA.URL == s.CA.URL {
		return UsageErrorf("the fallback CA is the same as the first CA")
	}
	for _, option := range []CA{s.CA, s.FallbackCA} {
		if option.URL == "" {
			continue
		}
		ca, err := NewCAClient(option)
		if err != nil {
			return err
		}
		s.CAs = append(s.CAs, ca)
	}
	staging := s.Config.StagingCA
	if staging.URL == "" && s.CA.URL == LetsEncrypt {
		staging.URL = LetsEncryptStaging
	}
	if staging.URL == "" {
		return nil
	}
	var err error
	s.StagingCA, err = NewCAClient(staging)
	return err
}

// resolveNames rejects what a CA would reject, before it is asked.
func (s *Settings) resolveNames(domains []string) (err error) {
	if s.Names, err = Names(domains); err != nil {
		return err
	}
	atLetsEncrypt := s.CA.URL == LetsEncrypt || s.CA.URL == LetsEncryptStaging
	for _, name := range s.Names {
		if atLetsEncrypt && !hosts.IsPublic(name) {
			return UsageErrorf("no public CA certifies %s; configure a private CA", name)
		}
	}
	return nil
}

// publiclyTrusted reports whether browsers are meant to trust the certificates.
func (s *Settings) publiclyTrusted() bool { return s.CA.URL != LetsEncryptStaging }

// caURLs returns the sorted URLs of the CAs.
func (s *Settings) caURLs() (urls []string) {
	for _, ca := range s.CAs {
		urls = append(urls, ca.URL)
	}
	slices.Sort(urls)
	return urls
}

// Names returns domains as the names that a [Client] certifies: in canonical form,
// each once. The error wraps [ErrUsage].
func Names(domains []string) ([]string, error) {
	var names []string
	for _, given := range domains {
		name, err := hosts.Canonical(given)
		if err != nil {
			return nil, UsageErrorf("%v", err)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}
