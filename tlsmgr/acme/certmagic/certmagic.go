// Package certmagic is the ACME engine that uses the library of that name: its
// accounts, challenges, renewal information (RFC 9773) and storage layout. It
// supports IP addresses, profiles and several CAs.
//
// certmagic's cache and maintenance stay unused, since both wait for disks. Each
// order uses one challenge type, so that failed validations can be counted.
package certmagic

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
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
	acme.EngineConfig
	cache     *certmagic.Cache
	responder *certmagic.Config // answers challenges
	issuers   map[*acme.CAClient]*certmagic.ACMEIssuer
	closeOnce sync.Once
}

var _ acme.NewEngine = New

// New returns the engine.
func New(c acme.EngineConfig) (acme.Engine, error) {
	e := &engine{EngineConfig: c, issuers: map[*acme.CAClient]*certmagic.ACMEIssuer{}}
	e.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return e.responder, nil },
		Logger:           zap.NewNop(),
	})
	e.responder = e.config(newStore(c.Storage, c.Challenges), zap.NewNop())
	for _, ca := range c.ChallengeCAs() {
		e.issuers[ca] = certmagic.NewACMEIssuer(e.responder, e.template(ca, zap.NewNop()))
		e.responder.Issuers = append(e.responder.Issuers, e.issuers[ca])
	}
	return e, nil
}

func (e *engine) Name() string { return "certmagic" }

func (e *engine) config(s certmagic.Storage, log *zap.Logger) *certmagic.Config {
	return certmagic.New(e.cache, certmagic.Config{
		Storage: s,
		Logger:  log,
		// It asks without a time limit, and Let's Encrypt has ended OCSP.
		OCSP: certmagic.OCSPConfig{DisableStapling: true},
		// The scheduler checks the space before it orders.
		DisableStorageCheck: true,
	})
}

// template sets every field that certmagic would otherwise take from its package
// variables, except TestCA: if that were the CA itself, renewals would not say
// what they replace.
func (e *engine) template(ca *acme.CAClient, log *zap.Logger) certmagic.ACMEIssuer {
	t := certmagic.ACMEIssuer{
		CA: ca.URL, TrustedRoots: ca.Roots,
		Email: e.Email, Agreed: true,
		ListenHost: e.ListenHost, AltHTTPPort: e.HTTPPort, AltTLSALPNPort: e.TLSPort,
		CertObtainTimeout: acme.OrderTimeout, Logger: log,
	}
	if ca.EABKeyID != "" {
		t.ExternalAccount = &acmelib.EAB{KeyID: ca.EABKeyID, MACKey: base64.RawURLEncoding.EncodeToString(ca.EABKey)}
	}
	return t
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

// Order makes one attempt. certmagic would repeat it for thirty days: its context
// is canceled when it reports the first failure.
func (e *engine) Order(ctx context.Context, o acme.Order) (failed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, acme.OrderTimeout)
	defer cancel()
	store := newStore(o.Storage, o.Challenges)
	log := newLibraryLog(e.Log)
	config := e.config(store, log.zap())
	issuer := e.template(o.CA, log.zap())
	issuer.DisableHTTPChallenge = o.ChallengeType.Name != acme.HTTP01
	issuer.DisableTLSALPNChallenge = o.ChallengeType.Name != acme.TLSALPN01
	issuer.Profile = e.profile(o)
	config.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(config, issuer)}
	var failure error
	config.OnEvent = func(_ context.Context, event string, data map[string]any) error {
		if event == "cert_failed" {
			failure, _ = data["error"].(error)
			cancel()
		}
		return nil
	}
	// Renewing a certificate that does not exist obtains it.
	if err = config.RenewCertAsync(ctx, o.Name, true); err == nil {
		return 0, nil
	}
	if store.challengeStarted.Load() {
		failed = 1
	}
	return failed, acme.TimedOut(ctx, failed, orderError(cmp.Or(failure, err), log))
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

func orderError(err error, log *libraryLog) *acme.OrderError {
	var problem acmelib.Problem
	status := 0
	if errors.As(err, &problem) {
		status, err = problem.Status, problemText(problem)
	}
	if problem.Type == acmelib.ProblemTypeBadNonce {
		status = http.StatusServiceUnavailable // the library has retried
	}
	e := acme.Classify(status, log.retryAfter(), err)
	if _, isAuthorization := problem.Resource.(acmelib.Authorization); isAuthorization {
		e.Outcome = schedule.ValidationFailed
	}
	return e
}

func problemText(p acmelib.Problem) error {
	text := strings.TrimPrefix(p.Type, acmelib.ProblemTypeNamespace) + ": " + p.Detail
	for _, sub := range p.Subproblems {
		text += "; " + sub.Detail
	}
	return fmt.Errorf("the CA says: %s", text)
}

func (e *engine) RenewalInfo(ctx context.Context, c *acme.Certificate) (schedule.ARI, error) {
	info, err := e.issuers[c.CA].GetRenewalInfo(ctx, certmagic.Certificate{Certificate: *c.Certificate})
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

func (e *engine) AnswerTLS(hello *tls.ClientHelloInfo, fromStorage bool) (*tls.Certificate, error) {
	if _, inMemory := certmagic.GetACMEChallenge(hello.ServerName); !inMemory && !fromStorage {
		return nil, nil
	}
	return e.responder.GetCertificate(hello)
}

func (e *engine) AnswerHTTP(r *http.Request, fromStorage bool) []byte {
	if _, inMemory := certmagic.GetACMEChallenge(r.Host); !inMemory && !fromStorage {
		return nil
	}
	// Each issuer finds the challenges of all. It changes the request.
	var body responseBuffer
	if !e.issuers[e.CAs[0]].HandleHTTPChallenge(&body, r.Clone(r.Context())) {
		return nil
	}
	return body.Bytes()
}

// responseBuffer takes what the library answers, a few hundred bytes.
type responseBuffer struct{ bytes.Buffer }

func (*responseBuffer) Header() http.Header { return http.Header{} }
func (*responseBuffer) WriteHeader(int)     {}

// Close gives certmagic's loop a moment to end: with a slow disk it takes minutes.
func (e *engine) Close() {
	e.closeOnce.Do(func() { timeout.Run(time.Second, e.cache.Stop) })
}
