// Package acme obtains and renews certificates from CAs with ACME (RFC 8555). A [Client]
// runs one worker per name, which loads the stored state, lets package schedule decide
// whether to order, and makes the order. The protocol is implemented by an [Engine] in a
// package of its own, which this package does not import.
package acme

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"

	"inbox/tlsmgr/internal/hosts"
	"inbox/tlsmgr/storage"
)

// The directory URLs of Let's Encrypt. LetsEncrypt is the default CA.
const (
	LetsEncrypt        = "https://acme-v02.api.letsencrypt.org/directory"
	LetsEncryptStaging = "https://acme-staging-v02.api.letsencrypt.org/directory"
)

// Config selects an engine and a CA, and describes how the CA reaches the server.
type Config struct {
	// Engine is certmagic.New or autocert.New. It is required.
	Engine EngineFactory
	// Email is the contact of the account. An e-mail address or Agreed is required;
	// either one states that the terms of the CA are accepted.
	Email  string
	Agreed bool
	// CA is tried first. Without a URL it is Let's Encrypt. FallbackCA is tried if the
	// first CA fails. Without a URL there is no fallback CA.
	CA, FallbackCA CA
	// Staging selects the staging environment of Let's Encrypt, whose certificates
	// browsers do not trust.
	Staging bool
	// StagingFirst makes the first order for a name at the staging CA, because production
	// CAs allow few failures, and a closed port would use them up. It has an effect only
	// with Let's Encrypt, or with StagingCA.
	StagingFirst bool
	// StagingCA is the staging CA. Without a URL it is the staging environment of Let's
	// Encrypt.
	StagingCA CA
	// Profile is the certificate profile to request. If empty, it is the default of the
	// CA, and "shortlived" for IP addresses if the CA lists it.
	Profile string
	// WaitForAddress delays the order for a name until the name has an address. Resolver
	// resolves it; nil means the resolver of the system.
	WaitForAddress bool
	Resolver       *net.Resolver

	// ListenHost is the address of the listeners without a port; empty for all addresses.
	ListenHost string
	// HTTPPort and TLSPort are the ports of the listeners; 0 means 80 and 443. The CA
	// always connects to 80 and 443, so other ports require port forwarding.
	HTTPPort, TLSPort int
	// NoHTTP and NoTLS state that the CA cannot reach the listener. At least one of the
	// two must be reachable.
	NoHTTP, NoTLS bool
}

// Settings are a resolved [Config], shared by an engine and its caller. They must not
// be changed.
type Settings struct {
	Config
	// Names are the names to obtain certificates for, in canonical form.
	Names []string
	// CAs are tried in this order. StagingCA is nil if there is none; its certificates
	// are not served.
	CAs       []*CAClient
	StagingCA *CAClient
	// Storage stores accounts and certificates. Challenges stores the responses to
	// challenges, so that other processes can respond to the CA.
	Storage, Challenges storage.Storage
	Log                 *slog.Logger
}

// ChallengeCAs returns all CAs whose challenges the server must respond to.
func (s *Settings) ChallengeCAs() []*CAClient {
	if s.StagingCA == nil {
		return s.CAs
	}
	return append(s.CAs[:len(s.CAs):len(s.CAs)], s.StagingCA)
}

// EngineFactory returns an engine, or an error that wraps [ErrUsage] for settings that
// the engine does not support. It writes nothing.
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

// resolveNames rejects names that a CA would reject.
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

// publiclyTrusted reports whether clients are expected to trust the certificates.
func (s *Settings) publiclyTrusted() bool { return s.CA.URL != LetsEncryptStaging }

// caURLs returns the sorted URLs of the CAs.
func (s *Settings) caURLs() (urls []string) {
	for _, ca := range s.CAs {
		urls = append(urls, ca.URL)
	}
	slices.Sort(urls)
	return urls
}

// Names returns the domains in canonical form, without duplicates. The error wraps
// [ErrUsage].
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

// hasNoAddress reports whether DNS has no address for a name. It is false if the lookup
// fails: then the order can succeed.
func (s *Settings) hasNoAddress(ctx context.Context, name string) bool {
	if !s.WaitForAddress || hosts.IsIP(name) {
		return false
	}
	resolver := s.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	_, err := resolver.LookupNetIP(ctx, "ip", name)
	var dnsErr *net.DNSError
	return errors.As(err, &dnsErr) && dnsErr.IsNotFound
}

// newEngine sets Storage and Challenges, and returns the engine.
func (s *Settings) newEngine(values, challenges storage.Storage) (Engine, error) {
	s.Storage, s.Challenges = values, challenges
	return s.Engine(s)
}
