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

// orderTime bounds one order. Authorities validate within seconds, and from
// several places; Let's Encrypt gives up after a minute or so.
const orderTime = 3 * time.Minute

// withCertmagic is the engine that stands on certmagic: its account, its
// challenges, its renewal information and its layout of the store. Its cache
// and its maintenance stay empty, since both wait for disks; and each order
// goes out with one way alone, so that what fails can be counted.
type withCertmagic struct {
	asksFirst
	set     *settings
	keeper  *keeper
	place   place
	mender  mender
	log     *slog.Logger
	cache   *certmagic.Cache
	answers *certmagic.Config // answers challenges, quietly
	issuers map[*authority]*certmagic.ACMEIssuer
	once    sync.Once
}

func newCertmagic(s *settings, k *keeper, p place) *withCertmagic {
	e := &withCertmagic{set: s, keeper: k, place: p, mender: menderOf(p), log: s.Logger,
		issuers: map[*authority]*certmagic.ACMEIssuer{}}
	e.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return e.answers, nil },
		Logger:           zap.NewNop(),
	})
	e.answers = e.config(k, zap.NewNop())
	for _, ca := range s.answered() {
		e.issuers[ca] = certmagic.NewACMEIssuer(e.answers, e.template(ca, zap.NewNop()))
		e.answers.Issuers = append(e.answers.Issuers, e.issuers[ca])
	}
	return e
}

func (e *withCertmagic) config(store certmagic.Storage, log *zap.Logger) *certmagic.Config {
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
func (e *withCertmagic) template(ca *authority, log *zap.Logger) certmagic.ACMEIssuer {
	a := e.set.ACME
	t := certmagic.ACMEIssuer{
		CA: ca.url, TrustedRoots: ca.roots,
		Email: a.Email, Agreed: true,
		ListenHost: a.ListenHost, AltHTTPPort: a.HTTPPort, AltTLSALPNPort: a.TLSPort,
		CertObtainTimeout: orderTime, Logger: log,
	}
	if ca.keyID != "" {
		t.ExternalAccount = &acme.EAB{KeyID: ca.keyID, MACKey: base64.RawURLEncoding.EncodeToString(ca.macKey)}
	}
	return t
}

// ways begins with TLS: our own listener is surely there.
func (e *withCertmagic) ways() []way {
	var ways []way
	if !e.set.ACME.NoTLS {
		ways = append(ways, way{overTLS, 1})
	}
	if !e.set.ACME.NoHTTP {
		ways = append(ways, way{overHTTP, 1})
	}
	return ways
}

func (e *withCertmagic) load(ctx context.Context, name string) ([]*stored, error) {
	var all []*stored
	var errs []error
	for _, ca := range e.set.cas {
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

func (e *withCertmagic) loadFrom(ctx context.Context, ca *authority, name string) (*stored, error) {
	key := e.issuers[ca].IssuerKey()
	chain, err := e.keeper.Load(ctx, certmagic.StorageKeys.SiteCert(key, name))
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the stored certificate: %w", err)
	}
	private, err := e.keeper.Load(ctx, certmagic.StorageKeys.SitePrivateKey(key, name))
	if missing(err) {
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

// mend also sets aside certificates that are none.
func (e *withCertmagic) mend(ctx context.Context, name string) {
	e.mender.library(certmagic.StorageKeys.Safe(name))
	for _, ca := range e.set.cas {
		if _, err := e.loadFrom(ctx, ca, name); errors.Is(err, errDamaged) {
			e.place.aside(ctx, certmagic.StorageKeys.CertsSitePrefix(e.issuers[ca].IssuerKey(), name))
		}
	}
}

// order makes one attempt. certmagic would repeat it for thirty days: it hears
// of the failure before it waits, and is told to end.
func (e *withCertmagic) order(ctx context.Context, o order) (failed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	store := &watchedStore{keeper: e.keeper}
	log := newLibraryLog(e.log)
	config := e.config(store, log.zap())
	issuer := e.template(o.ca, log.zap())
	issuer.DisableHTTPChallenge = o.way.name != overHTTP
	issuer.DisableTLSALPNChallenge = o.way.name != overTLS
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
	failed = int(store.begun.Load())
	return failed, unanswered(ctx, failed, certmagicError(cmp.Or(failure, err), log))
}

// profile is the one asked for, which other authorities than the first need not
// know; for an address, the one that knows addresses.
func (e *withCertmagic) profile(o order) string {
	wanted := e.set.ACME.Profile
	if wanted != "" && o.ca == e.set.cas[0] {
		return wanted
	}
	if wanted == "" && isIP(o.name) {
		wanted = shortLived
	}
	if _, listed := o.offers.Meta.Profiles[wanted]; listed {
		return wanted
	}
	return ""
}

func certmagicError(err error, log *libraryLog) *orderError {
	var problem acme.Problem
	status := 0
	if errors.As(err, &problem) {
		status, err = problem.Status, words(problem)
	}
	if problem.Type == acme.ProblemTypeBadNonce {
		status = http.StatusServiceUnavailable // the library has tried often enough
	}
	e := judge(status, log.wait(), err)
	if _, validated := problem.Resource.(acme.Authorization); validated {
		e.outcome = invalid
	}
	return e
}

// words are what the authority itself says.
func words(p acme.Problem) error {
	text := strings.TrimPrefix(p.Type, acme.ProblemTypeNamespace) + ": " + p.Detail
	for _, sub := range p.Subproblems {
		text += "; " + sub.Detail
	}
	return fmt.Errorf("the authority says: %s", text)
}

// challengeTokens is in the keys of challenges that certmagic lays out.
const challengeTokens = "/challenge_tokens/"

// watchedStore notes when a challenge is laid out: from then on the authority
// may validate, and count.
type watchedStore struct {
	*keeper
	begun atomic.Int32 // 1: one way is one challenge
}

func (w *watchedStore) Store(ctx context.Context, key string, value []byte) error {
	if strings.Contains(key, challengeTokens) {
		w.begun.Store(1)
	}
	return w.keeper.Store(ctx, key, value)
}

func (e *withCertmagic) renewal(ctx context.Context, s *stored) (renewal, error) {
	info, err := e.issuers[s.ca].GetRenewalInfo(ctx, certmagic.Certificate{Certificate: *s.Certificate})
	if errors.Is(err, acme.ErrUnsupported) {
		return renewal{}, errNoRenewalInfo
	}
	if err != nil {
		return renewal{}, fmt.Errorf("ask the authority when to renew: %w", err)
	}
	r := renewal{Serial: serial(s.Leaf), At: info.SelectedTime, Why: clip(info.ExplanationURL),
		From: info.SuggestedWindow.Start, To: info.SuggestedWindow.End}
	if info.RetryAfter != nil {
		r.AskAgain = *info.RetryAfter
	}
	return r, nil
}

func (e *withCertmagic) answerTLS(hello *tls.ClientHelloInfo, deep bool) (*tls.Certificate, error) {
	if _, ours := certmagic.GetACMEChallenge(hello.ServerName); !ours && !deep {
		return nil, nil
	}
	return e.answers.GetCertificate(hello)
}

func (e *withCertmagic) answerHTTP(r *http.Request, deep bool) []byte {
	if _, ours := certmagic.GetACMEChallenge(r.Host); !ours && !deep {
		return nil
	}
	// All issuers' challenges are found by any of them. The request is changed.
	var text heard
	if !e.issuers[e.set.cas[0]].HandleHTTPChallenge(&text, r.Clone(r.Context())) {
		return nil
	}
	return text.Bytes()
}

// heard takes what the library answers, a few hundred bytes at most.
type heard struct{ bytes.Buffer }

func (*heard) Header() http.Header { return http.Header{} }
func (*heard) WriteHeader(int)     {}

// close gives certmagic's loop a moment to end: with a slow disk it takes minutes.
func (e *withCertmagic) close() {
	e.once.Do(func() { doneIn(time.Second, e.cache.Stop) })
}
