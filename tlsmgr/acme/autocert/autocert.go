// Package autocert is the ACME engine that uses golang.org/x/crypto/acme/autocert.
// It supports neither IP addresses, profiles nor a fallback CA, and knows no
// renewal information.
//
// An autocert.Manager orders when a client connects, renews when it likes, and
// cannot be stopped. So each order has a Manager of its own, which is asked by a
// client that does not exist and disabled once it has answered.
package autocert

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	acmelib "golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/hosts"
	"inbox/tlsmgr/storage"
)

type engine struct {
	*acme.Settings

	mu     sync.Mutex
	orders map[string]*orderCache // in progress, by name

	registerMu sync.Mutex
	registered map[*acme.CAClient]bool
}

var _ acme.EngineFactory = New

// New returns the engine.
func New(s *acme.Settings) (acme.Engine, error) {
	if err := checkSupported(s); err != nil {
		return nil, err
	}
	return newEngine(s), nil
}

func newEngine(s *acme.Settings) *engine {
	return &engine{Settings: s, orders: map[string]*orderCache{}, registered: map[*acme.CAClient]bool{}}
}

func checkSupported(s *acme.Settings) error {
	switch {
	case s.Profile != "":
		return acme.UsageErrorf("autocert does not support certificate profiles; use certmagic")
	case len(s.CAs) > 1:
		return acme.UsageErrorf("autocert does not support a fallback CA; use certmagic")
	case s.NoTLS:
		return acme.UsageErrorf("autocert always tries port 443 first, where each failure counts against the CA's limits; use certmagic")
	}
	for _, name := range s.Names {
		if hosts.IsIP(name) {
			return acme.UsageErrorf("autocert cannot certify the IP address %s; use certmagic", name)
		}
		if !strings.Contains(name, ".") {
			return acme.UsageErrorf("autocert cannot certify %s, which has no dot; use certmagic", name)
		}
	}
	return nil
}

func (e *engine) Name() string { return "autocert" }

func (e *engine) Close() {}

// ChallengeTypes returns one: autocert tries TLS first and then, if it can, HTTP.
func (e *engine) ChallengeTypes() []acme.ChallengeType {
	if e.NoHTTP {
		return []acme.ChallengeType{{Name: acme.TLSALPN01, Validations: 1}}
	}
	return []acme.ChallengeType{{Name: acme.TLSALPN01 + ", " + acme.HTTP01, Validations: 2}}
}

func keyOf(ca *acme.CAClient, name string) string { return path.Join("autocert", ca.StorageKey, name) }

func (e *engine) Load(ctx context.Context, name string) ([]*acme.Certificate, error) {
	bundle, err := e.Storage.Load(ctx, keyOf(e.CAs[0], name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the stored certificate: %w", err)
	}
	cert, err := certs.Parse(bundle, bundle)
	if err != nil {
		return nil, fmt.Errorf("the stored certificate of %s: %w: %w", name, acme.ErrDamaged, err)
	}
	return []*acme.Certificate{{Certificate: cert, CA: e.CAs[0]}}, nil
}

// QuarantineDamaged checks the certificate and the keys of the accounts.
func (e *engine) QuarantineDamaged(ctx context.Context, s storage.Storage, name string) {
	if _, err := e.Load(ctx, name); errors.Is(err, acme.ErrDamaged) {
		_ = s.Quarantine(ctx, keyOf(e.CAs[0], name)) // it logs
	}
	if s.Shared() { // it has no half-written values
		return
	}
	for _, ca := range e.ChallengeCAs() {
		key := keyOf(ca, accountKey)
		if text, err := s.Load(ctx, key); err == nil {
			if block, _ := pem.Decode(text); block == nil {
				_ = s.Quarantine(ctx, key)
			}
		}
	}
}

func (e *engine) RenewalInfo(context.Context, *acme.Certificate) (schedule.ARI, error) {
	return schedule.ARI{}, acme.ErrNoRenewalInfo
}

func (e *engine) Order(ctx context.Context, o acme.Order) (failed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, acme.OrderTimeout)
	defer cancel()
	if o.ResumeURL != "" { // autocert keeps the key of an order in memory alone
		return 0, acme.ErrOrderGone
	}
	run := e.newOrderRun(ctx, o)
	if err = run.order(ctx); err != nil && run.recoverAccount(ctx, err) {
		run = e.newOrderRun(ctx, o)
		err = run.order(ctx)
	}
	started := int(run.cache.startedChallenges.Load())
	switch {
	case err == nil:
		return max(started-1, 0), nil // the last one was valid
	case run.tap.finalized():
		return max(started-1, 0), run.orderError(err)
	}
	return started, acme.TimedOut(ctx, started, run.orderError(err))
}

// orderRun is one order with a Manager of its own.
type orderRun struct {
	*engine
	request acme.Order
	cache   *orderCache
	tap     *responseTap
}

func (e *engine) newOrderRun(ctx context.Context, o acme.Order) *orderRun {
	cache := &orderCache{order: o}
	return &orderRun{engine: e, request: o, cache: cache, tap: &responseTap{ctx: ctx, next: o.CA.HTTPClient.Transport}}
}

func (r *orderRun) order(ctx context.Context) error {
	m := r.manager(r.request, r.cache, r.tap)
	account, err := r.register(ctx, r.request.CA, r.cache, m.Client)
	if err != nil {
		return err
	}
	r.tap.account = account
	r.setOrder(r.request.Name, r.cache)
	defer r.setOrder(r.request.Name, nil)
	defer r.cache.retired.Store(true)
	_, err = m.GetCertificate(clientHello(r.request.Name))
	return err
}

func (e *engine) manager(o acme.Order, cache *orderCache, tap *responseTap) *autocert.Manager {
	m := &autocert.Manager{
		Prompt: autocert.AcceptTOS, // checked already
		Cache:  cache,
		HostPolicy: func(_ context.Context, host string) error {
			if hosts.FromHeader(host) != o.Name {
				return errors.New("not the ordered name")
			}
			return nil
		},
		Email:                  e.Email,
		ExternalAccountBinding: binding(o.CA),
		Client: &acmelib.Client{DirectoryURL: o.CA.URL, RetryBackoff: retryDelay,
			HTTPClient: &http.Client{Transport: tap, Timeout: acme.RequestTimeout}},
	}
	if !e.NoHTTP {
		m.HTTPHandler(nil) // enables the challenge type; the engine answers it itself
	}
	return m
}

func binding(ca *acme.CAClient) *acmelib.ExternalAccountBinding {
	if ca.EABKeyID == "" {
		return nil
	}
	return &acmelib.ExternalAccountBinding{KID: ca.EABKeyID, Key: ca.EABKey}
}

// accountKey is where autocert keeps the key of the account.
const accountKey = "acme_account+key"

// register creates the account before the first order. Managers that order for
// several names at once would create one each.
// It returns a client for the account.
func (e *engine) register(ctx context.Context, ca *acme.CAClient, cache *orderCache, client *acmelib.Client) (*acmelib.Client, error) {
	e.registerMu.Lock()
	defer e.registerMu.Unlock()
	key, err := loadAccountKey(ctx, cache)
	if err != nil {
		return nil, err
	}
	// Its requests are not those of the order.
	own := &acmelib.Client{DirectoryURL: ca.URL, HTTPClient: ca.HTTPClient, RetryBackoff: retryDelay, Key: key}
	if e.registered[ca] {
		return own, nil
	}
	account := &acmelib.Account{ExternalAccountBinding: binding(ca)}
	if e.Email != "" {
		account.Contact = []string{"mailto:" + e.Email}
	}
	registrar := &acmelib.Client{DirectoryURL: client.DirectoryURL, HTTPClient: client.HTTPClient, RetryBackoff: retryDelay, Key: key}
	if _, err := registrar.Register(ctx, account, autocert.AcceptTOS); err != nil && !errors.Is(err, acmelib.ErrAccountAlreadyExists) {
		return own, err
	}
	e.registered[ca] = true
	return own, nil
}

// loadAccountKey returns the key of the account, in the form that autocert writes
// it, and creates a missing one.
func loadAccountKey(ctx context.Context, cache *orderCache) (crypto.Signer, error) {
	text, err := cache.Get(ctx, accountKey)
	if err == nil {
		return parseAccountKey(text)
	}
	if !errors.Is(err, autocert.ErrCacheMiss) {
		return nil, fmt.Errorf("read the account key: %w", err)
	}
	return createAccountKey(ctx, cache)
}

func createAccountKey(ctx context.Context, cache *orderCache) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, cache.Put(ctx, accountKey, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// retryDelay repeats a request with an expired nonce or after a server error. All
// else is repeated by the scheduler.
func retryDelay(n int, _ *http.Request, resp *http.Response) time.Duration {
	if resp.StatusCode == http.StatusBadRequest && n <= 20 || resp.StatusCode >= 500 && n <= 3 {
		return 100 * time.Millisecond
	}
	return -1
}

// clientHello is that of a client that supports ECDSA; for others autocert would
// order a second certificate.
func clientHello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:       name,
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:  []tls.CurveID{tls.CurveP256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	}
}

func parseAccountKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("the account key: %w", acme.ErrDamaged)
	}
	return x509.ParseECPrivateKey(block.Bytes)
}
