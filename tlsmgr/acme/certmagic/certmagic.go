// Package certmagic is the ACME engine that uses the library certmagic: its key
// generation, its storage layout for accounts, challenges and certificates, and its
// protocol client acmez. It supports ARI (RFC 9773), IP addresses, profiles and several
// CAs.
//
// certmagic's cache and maintenance are not used, because both can block on storage. Orders
// are made step by step with acmez, so that a finalized order can be resumed. Each order
// uses one challenge type, so that failed validations can be counted.
package certmagic

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	acmelib "github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/hosts"
	"inbox/tlsmgr/internal/timeout"
	"inbox/tlsmgr/storage"
)

type engine struct {
	*acme.Settings
	cache     *certmagic.Cache
	issuers   map[*acme.CAClient]*certmagic.ACMEIssuer // for their storage keys
	closeOnce sync.Once

	mu        sync.Mutex
	presented map[string]acmelib.Challenge // of the orders in progress, by name
}

var _ acme.EngineFactory = New

// userAgent begins the User-Agent of requests to a CA.
const userAgent = "inbox"

// New returns the engine.
func New(s *acme.Settings) (acme.Engine, error) {
	e := &engine{Settings: s, issuers: map[*acme.CAClient]*certmagic.ACMEIssuer{}, presented: map[string]acmelib.Challenge{}}
	e.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) {
			return nil, errors.New("the cache is not used")
		},
		Logger: zap.NewNop(),
	})
	config := e.config(newStore(s.Storage))
	for _, ca := range s.ChallengeCAs() {
		e.issuers[ca] = certmagic.NewACMEIssuer(config, certmagic.ACMEIssuer{CA: ca.URL, Email: e.Email, Agreed: true, Logger: zap.NewNop()})
	}
	return e, nil
}

func (e *engine) Name() string { return "certmagic" }

func (e *engine) config(s certmagic.Storage) *certmagic.Config {
	return certmagic.New(e.cache, certmagic.Config{
		Storage: s,
		Logger:  zap.NewNop(), // the scheduler logs
		// OCSP requests have no timeout, and Let's Encrypt no longer supports OCSP.
		OCSP: certmagic.OCSPConfig{DisableStapling: true},
		// The scheduler checks the storage before it orders.
		DisableStorageCheck: true,
	})
}

// ChallengeTypes prefers TLS-ALPN, because the TLS listener always exists.
func (e *engine) ChallengeTypes() []acme.ChallengeType {
	var types []acme.ChallengeType
	if !e.NoTLS {
		types = append(types, acme.ChallengeType{Name: acme.TLSALPN01, Validations: 1})
	}
	if !e.NoHTTP {
		types = append(types, acme.ChallengeType{Name: acme.HTTP01, Validations: 1})
	}
	return types
}

func (e *engine) Load(ctx context.Context, name string) ([]*acme.Certificate, error) {
	var all []*acme.Certificate
	var errs []error
	for _, ca := range e.CAs {
		cert, err := e.loadFrom(ctx, ca, name)
		if err != nil {
			errs = append(errs, err)
		}
		if cert != nil {
			all = append(all, cert)
		}
	}
	return all, errors.Join(errs...)
}

func (e *engine) loadFrom(ctx context.Context, ca *acme.CAClient, name string) (*acme.Certificate, error) {
	issuer := e.issuers[ca].IssuerKey()
	chain, err := e.Storage.Load(ctx, certmagic.StorageKeys.SiteCert(issuer, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the stored certificate: %w", err)
	}
	key, err := e.Storage.Load(ctx, certmagic.StorageKeys.SitePrivateKey(issuer, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the next order stores both
	}
	if err != nil {
		return nil, fmt.Errorf("read the stored key: %w", err)
	}
	cert, err := certs.Parse(chain, key)
	if err != nil {
		return nil, fmt.Errorf("the stored certificate of %s: %w: %w", name, acme.ErrDamaged, err)
	}
	return &acme.Certificate{Certificate: cert, CA: ca}, nil
}

// QuarantineDamaged checks certificates, their metadata, and accounts, because certmagic
// cannot order if one of them is damaged. Values in shared storage are not damaged by a
// crash.
func (e *engine) QuarantineDamaged(ctx context.Context, s storage.Storage, name string) {
	for _, ca := range e.CAs {
		if _, err := e.loadFrom(ctx, ca, name); errors.Is(err, acme.ErrDamaged) {
			_ = s.Quarantine(ctx, certmagic.StorageKeys.CertsSitePrefix(e.issuers[ca].IssuerKey(), name)) // it logs
		}
	}
	if s.Shared() {
		return
	}
	isJSON := func(text []byte) bool { return json.Valid(text) }
	quarantineInvalid(ctx, s, "acme/*/users/*/*.json", isJSON)
	quarantineInvalid(ctx, s, "acme/*/users/*/*.key", isPEM)
	quarantineInvalid(ctx, s, "certificates/*/"+certmagic.StorageKeys.Safe(name)+"/*.json", isJSON)
}

func isPEM(text []byte) bool {
	block, _ := pem.Decode(bytes.TrimSpace(text))
	return block != nil
}

// quarantineInvalid checks the values whose keys match a pattern.
func quarantineInvalid(ctx context.Context, s storage.Storage, pattern string, valid func([]byte) bool) {
	top, _, _ := strings.Cut(pattern, "/")
	keys, _ := s.List(ctx, top) // after an error, the order fails
	for _, key := range keys {
		if matched, _ := path.Match(pattern, key); !matched {
			continue
		}
		if text, err := s.Load(ctx, key); err == nil && !valid(text) {
			_ = s.Quarantine(ctx, key)
		}
	}
}

// profile returns the certificate profile to request: the configured one, or the profile
// for IP addresses. A fallback CA gets it only if it lists it.
func (e *engine) profile(o acme.Order) string {
	if e.Profile != "" && o.CA == e.CAs[0] {
		return e.Profile
	}
	wanted := e.Profile
	if wanted == "" && hosts.IsIP(o.Name) {
		wanted = acme.ShortLivedProfile
	}
	if _, listed := o.Directory.Meta.Profiles[wanted]; listed {
		return wanted
	}
	return ""
}

func (e *engine) RenewalInfo(ctx context.Context, c *acme.Certificate) (schedule.ARI, error) {
	client := &acmelib.Client{Directory: c.CA.URL, UserAgent: userAgent, HTTPClient: c.CA.HTTPClient}
	info, err := client.GetRenewalInfo(ctx, c.Leaf)
	if errors.Is(err, acmelib.ErrUnsupported) {
		return schedule.ARI{}, acme.ErrNoRenewalInfo
	}
	if err != nil {
		return schedule.ARI{}, fmt.Errorf("get renewal information: %w", err)
	}
	ari := schedule.ARI{Serial: c.Serial(), At: info.SelectedTime, Why: acme.SanitizeText(info.ExplanationURL),
		From: info.SuggestedWindow.Start, To: info.SuggestedWindow.End}
	if info.RetryAfter != nil {
		ari.RefreshAfter = *info.RetryAfter
	}
	return ari, nil
}

// Close waits a second for certmagic's maintenance goroutine, which slow storage can block
// for minutes.
func (e *engine) Close() {
	e.closeOnce.Do(func() { timeout.Run(time.Second, e.cache.Stop) })
}
