package tlsmgr

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// orderTimeout bounds one order. Authorities validate within seconds, and from
// several places; Let's Encrypt gives up after a minute or so.
const orderTimeout = 3 * time.Minute

// certmagicEngine is the engine that stands on certmagic: its account, its
// challenges, its renewal information and its layout of the store. Its cache
// and its maintenance stay empty, since both wait for disks; and each order
// goes out with one way alone, so that what fails can be counted.
type certmagicEngine struct {
	directoryProbe
	settings        *settings
	buffered        *bufferedStorage
	storage         storage
	quarantine      fileQuarantine
	log             *slog.Logger
	cache           *certmagic.Cache
	challengeConfig *certmagic.Config // answers challenges, quietly
	issuers         map[*caClient]*certmagic.ACMEIssuer
	closeOnce       sync.Once
}

func newCertmagicEngine(s *settings, buffered *bufferedStorage, store storage) *certmagicEngine {
	e := &certmagicEngine{settings: s, buffered: buffered, storage: store, quarantine: quarantineOf(store), log: s.Logger,
		issuers: map[*caClient]*certmagic.ACMEIssuer{}}
	e.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return e.challengeConfig, nil },
		Logger:           zap.NewNop(),
	})
	e.challengeConfig = e.config(buffered, zap.NewNop())
	for _, ca := range s.challengeCAs() {
		e.issuers[ca] = certmagic.NewACMEIssuer(e.challengeConfig, e.template(ca, zap.NewNop()))
		e.challengeConfig.Issuers = append(e.challengeConfig.Issuers, e.issuers[ca])
	}
	return e
}

func (e *certmagicEngine) config(store certmagic.Storage, log *zap.Logger) *certmagic.Config {
	return certmagic.New(e.cache, certmagic.Config{
		Storage: store,
		Logger:  log,
		// Asks without any time limit, and Let's Encrypt has ended OCSP.
		OCSP: certmagic.OCSPConfig{DisableStapling: true},
		// The supervisor makes sure of the room before it orders.
		DisableStorageCheck: true,
	})
}

// template has every field set that certmagic would otherwise take from its
// package variables, but for TestCA: were it the authority itself, renewals
// would not say what they replace.
func (e *certmagicEngine) template(ca *caClient, log *zap.Logger) certmagic.ACMEIssuer {
	a := e.settings.ACME
	t := certmagic.ACMEIssuer{
		CA: ca.url, TrustedRoots: ca.roots,
		Email: a.Email, Agreed: true,
		ListenHost: a.ListenHost, AltHTTPPort: a.HTTPPort, AltTLSALPNPort: a.TLSPort,
		CertObtainTimeout: orderTimeout, Logger: log,
	}
	if ca.eabKeyID != "" {
		t.ExternalAccount = &acme.EAB{KeyID: ca.eabKeyID, MACKey: base64.RawURLEncoding.EncodeToString(ca.eabKey)}
	}
	return t
}

// challengeTypes begins with TLS: our own listener is surely there.
func (e *certmagicEngine) challengeTypes() []challengeType {
	var ways []challengeType
	if !e.settings.ACME.NoTLS {
		ways = append(ways, challengeType{tlsALPN01, 1})
	}
	if !e.settings.ACME.NoHTTP {
		ways = append(ways, challengeType{http01, 1})
	}
	return ways
}

func (e *certmagicEngine) load(ctx context.Context, name string) ([]*stored, error) {
	var all []*stored
	var errs []error
	for _, ca := range e.settings.cas {
		s, err := e.loadFrom(ctx, ca, name)
		if err != nil {
			errs = append(errs, err)
		}
		if s != nil {
			all = append(all, s)
		}
	}
	return all, errors.Join(errs...)
}

func (e *certmagicEngine) loadFrom(ctx context.Context, ca *caClient, name string) (*stored, error) {
	key := e.issuers[ca].IssuerKey()
	chain, err := e.buffered.Load(ctx, certmagic.StorageKeys.SiteCert(key, name))
	if isNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the stored certificate: %w", err)
	}
	private, err := e.buffered.Load(ctx, certmagic.StorageKeys.SitePrivateKey(key, name))
	if isNotExist(err) {
		return nil, nil // certmagic obtains it anew
	}
	if err != nil {
		return nil, fmt.Errorf("read the stored key: %w", err)
	}
	cert, err := tls.X509KeyPair(chain, private)
	if err != nil {
		return nil, fmt.Errorf("the stored certificate of %s: %w: %w", name, errDamaged, err)
	}
	return &stored{&cert, ca}, nil
}

// quarantineDamaged also sets aside certificates that are none.
func (e *certmagicEngine) quarantineDamaged(ctx context.Context, name string) {
	e.quarantine.checkCertmagicFiles(certmagic.StorageKeys.Safe(name))
	for _, ca := range e.settings.cas {
		if _, err := e.loadFrom(ctx, ca, name); errors.Is(err, errDamaged) {
			e.storage.quarantine(ctx, certmagic.StorageKeys.CertsSitePrefix(e.issuers[ca].IssuerKey(), name))
		}
	}
}

// order makes one attempt. certmagic would repeat it for thirty days: it hears
// of the failure before it waits, and is told to end.
func (e *certmagicEngine) order(ctx context.Context, o order) (failed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	store := &trackingStorage{bufferedStorage: e.buffered}
	log := newLibraryLog(e.log)
	config := e.config(store, log.zap())
	issuer := e.template(o.ca, log.zap())
	issuer.DisableHTTPChallenge = o.challengeType.name != http01
	issuer.DisableTLSALPNChallenge = o.challengeType.name != tlsALPN01
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
	// Renewing a certificate that is not there is obtaining it.
	if err = config.RenewCertAsync(ctx, o.name, true); err == nil {
		return 0, nil
	}
	failed = int(store.startedChallenges.Load())
	return failed, timedOut(ctx, failed, certmagicError(cmp.Or(failure, err), log))
}

// profile is the one asked for, which other authorities than the first need not
// know; for an address, the one that knows addresses.
func (e *certmagicEngine) profile(o order) string {
	wanted := e.settings.ACME.Profile
	if wanted != "" && o.ca == e.settings.cas[0] {
		return wanted
	}
	if wanted == "" && isIP(o.name) {
		wanted = shortLivedProfile
	}
	if _, listed := o.directory.Meta.Profiles[wanted]; listed {
		return wanted
	}
	return ""
}

func certmagicError(err error, log *libraryLog) *orderError {
	var problem acme.Problem
	status := 0
	if errors.As(err, &problem) {
		status, err = problem.Status, caMessage(problem)
	}
	if problem.Type == acme.ProblemTypeBadNonce {
		status = http.StatusServiceUnavailable // the library has tried often enough
	}
	e := classify(status, log.retryAfter(), err)
	if _, isAuthorization := problem.Resource.(acme.Authorization); isAuthorization {
		e.outcome = validationFailed
	}
	return e
}

// caMessage are what the authority itself says.
func caMessage(p acme.Problem) error {
	text := strings.TrimPrefix(p.Type, acme.ProblemTypeNamespace) + ": " + p.Detail
	for _, sub := range p.Subproblems {
		text += "; " + sub.Detail
	}
	return fmt.Errorf("the authority says: %s", text)
}

// challengeTokensDir is in the keys of challenges that certmagic lays out.
const challengeTokensDir = "/challenge_tokens/"

// trackingStorage notes when a challenge is laid out: from then on the authority
// may validate, and count.
type trackingStorage struct {
	*bufferedStorage
	startedChallenges atomic.Int32 // 1: one way is one challenge
}

func (t *trackingStorage) Store(ctx context.Context, key string, value []byte) error {
	if strings.Contains(key, challengeTokensDir) {
		t.startedChallenges.Store(1)
	}
	return t.bufferedStorage.Store(ctx, key, value)
}

func (e *certmagicEngine) fetchRenewalInfo(ctx context.Context, s *stored) (renewalInfo, error) {
	info, err := e.issuers[s.ca].GetRenewalInfo(ctx, certmagic.Certificate{Certificate: *s.Certificate})
	if errors.Is(err, acme.ErrUnsupported) {
		return renewalInfo{}, errNoRenewalInfo
	}
	if err != nil {
		return renewalInfo{}, fmt.Errorf("ask the authority when to renew: %w", err)
	}
	r := renewalInfo{Serial: serial(s.Leaf), At: info.SelectedTime, Why: sanitizeText(info.ExplanationURL),
		From: info.SuggestedWindow.Start, To: info.SuggestedWindow.End}
	if info.RetryAfter != nil {
		r.RefreshAfter = *info.RetryAfter
	}
	return r, nil
}

func (e *certmagicEngine) answerTLS(hello *tls.ClientHelloInfo, fromStorage bool) (*tls.Certificate, error) {
	if _, inMemory := certmagic.GetACMEChallenge(hello.ServerName); !inMemory && !fromStorage {
		return nil, nil
	}
	return e.challengeConfig.GetCertificate(hello)
}

func (e *certmagicEngine) answerHTTP(r *http.Request, fromStorage bool) []byte {
	if _, inMemory := certmagic.GetACMEChallenge(r.Host); !inMemory && !fromStorage {
		return nil
	}
	// All issuers' challenges are found by any of them. The request is changed.
	var buf responseBuffer
	if !e.issuers[e.settings.cas[0]].HandleHTTPChallenge(&buf, r.Clone(r.Context())) {
		return nil
	}
	return buf.Bytes()
}

// responseBuffer takes what the library answers, a few hundred bytes at most.
type responseBuffer struct{ bytes.Buffer }

func (*responseBuffer) Header() http.Header { return http.Header{} }
func (*responseBuffer) WriteHeader(int)     {}

// close gives certmagic's loop a moment to end: with a slow disk it takes minutes.
func (e *certmagicEngine) close() {
	e.closeOnce.Do(func() { withTimeout(time.Second, e.cache.Stop) })
}
