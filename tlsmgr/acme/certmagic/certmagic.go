// Package certmagic is the ACME engine that uses the library of that name: its
// keys, its storage layout for accounts, challenges and certificates, and acmez, its
// protocol client. It supports renewal information (RFC 9773), IP addresses,
// profiles and several CAs.
//
// certmagic's cache and maintenance stay unused, since both wait for disks. Orders
// are made step by step with acmez, so that a finalized one can be resumed. Each
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
		Logger:  zap.NewNop(), // the scheduler logs what operators need
		// It asks without a time limit, and Let's Encrypt has ended OCSP.
		OCSP: certmagic.OCSPConfig{DisableStapling: true},
		// The scheduler checks the space before it orders.
		DisableStorageCheck: true,
	})
}

// ChallengeTypes begins with TLS: that listener certainly exists.
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
		return nil, nil // certmagic orders another
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

// QuarantineDamaged checks certificates, accounts, and the metadata of
// certificates: certmagic fails on each of them for ever. Shared storage has
// no half-written values.
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
	keys, _ := s.List(ctx, top) // what cannot be read now fails the order
	for _, key := range keys {
		if matched, _ := path.Match(pattern, key); !matched {
			continue
		}
		if text, err := s.Load(ctx, key); err == nil && !valid(text) {
			_ = s.Quarantine(ctx, key)
		}
	}
}

// Order makes one attempt.
func (e *engine) Order(ctx context.Context, o acme.Order) (failed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, acme.OrderTimeout)
	defer cancel()
	r := e.newOrderRun(o)
	if o.ResumeURL != "" {
		if err := r.loadKey(ctx); err != nil {
			return 0, err
		}
	}
	config := e.config(r.store)
	config.KeySource, config.Issuers = r, []certmagic.Issuer{r}
	// Renewing a certificate that does not exist obtains it.
	if err = config.RenewCertAsync(ctx, o.Name, true); err == nil {
		_ = o.Storage.Delete(ctx, r.pendingKeyPath())
		return 0, nil
	}
	if r.challengeStarted && !r.validated {
		failed = 1
	}
	return failed, r.orderError(ctx, err)
}

// profile returns the configured one, which other CAs than the first need not
// know, and for an address the one for addresses.
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
		return schedule.ARI{}, fmt.Errorf("ask the CA when to renew: %w", err)
	}
	ari := schedule.ARI{Serial: c.Serial(), At: info.SelectedTime, Why: acme.SanitizeText(info.ExplanationURL),
		From: info.SuggestedWindow.Start, To: info.SuggestedWindow.End}
	if info.RetryAfter != nil {
		ari.RefreshAfter = *info.RetryAfter
	}
	return ari, nil
}

// Close gives certmagic's loop a moment to end: with a slow disk it takes minutes.
func (e *engine) Close() {
	e.closeOnce.Do(func() { timeout.Run(time.Second, e.cache.Stop) })
}
