package tlsmgr

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
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// autocertEngine is the engine that stands on autocert. A Manager orders when a
// client connects, renews when it likes, and cannot be stopped. So each order
// has a Manager of its own, which is asked by a client that does not exist, and
// put out of action once it answered.
type autocertEngine struct {
	directoryProbe
	settings   *settings
	buffered   *bufferedStorage
	storage    storage
	quarantine fileQuarantine

	mu           sync.Mutex
	activeOrders map[string]*orderCache // by name

	registerMu sync.Mutex
	registered map[*caClient]bool
}

func newAutocertEngine(s *settings, buffered *bufferedStorage, store storage) *autocertEngine {
	return &autocertEngine{settings: s, buffered: buffered, storage: store, quarantine: quarantineOf(store), activeOrders: map[string]*orderCache{}, registered: map[*caClient]bool{}}
}

// challengeTypes is one: autocert tries TLS first and then, when it may, HTTP.
func (e *autocertEngine) challengeTypes() []challengeType {
	if e.settings.ACME.NoHTTP {
		return []challengeType{{tlsALPN01, 1}}
	}
	return []challengeType{{tlsALPN01 + ", " + http01, 2}}
}

func (e *autocertEngine) key(ca *caClient, name string) string {
	return path.Join("autocert", ca.storageKey, name)
}

func (e *autocertEngine) load(ctx context.Context, name string) ([]*stored, error) {
	ca := e.settings.cas[0]
	bundle, err := e.buffered.Load(ctx, e.key(ca, name))
	if isNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the stored certificate: %w", err)
	}
	cert, err := tls.X509KeyPair(bundle, bundle)
	if err != nil {
		return nil, fmt.Errorf("the stored certificate of %s: %w: %w", name, errDamaged, err)
	}
	return []*stored{{&cert, ca}}, nil
}

func (e *autocertEngine) quarantineDamaged(ctx context.Context, name string) {
	if _, err := e.load(ctx, name); errors.Is(err, errDamaged) {
		e.storage.quarantine(ctx, e.key(e.settings.cas[0], name))
	}
	e.quarantine.checkGlob("autocert/*/"+accountKey, isPEM)
}

func (e *autocertEngine) fetchRenewalInfo(context.Context, *stored) (renewalInfo, error) {
	return renewalInfo{}, errNoRenewalInfo
}

func (e *autocertEngine) order(ctx context.Context, o order) (failed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	cache := &orderCache{engine: e, order: o}
	tap := &responseTap{ctx: ctx, next: o.ca.httpClient.Transport}
	m := e.manager(o, cache, tap)
	if err := e.register(ctx, o.ca, cache, m.Client); err != nil {
		return 0, autocertError(err, tap)
	}
	e.startOrder(o.name, cache)
	defer e.endOrder(o.name)
	defer cache.retired.Store(true)
	_, err = m.GetCertificate(clientHello(o.name))
	started := int(cache.startedChallenges.Load())
	if err == nil {
		return max(started-1, 0), nil // the last one was valid
	}
	return started, timedOut(ctx, started, autocertError(err, tap))
}

func (e *autocertEngine) manager(o order, cache *orderCache, tap *responseTap) *autocert.Manager {
	m := &autocert.Manager{
		Prompt: autocert.AcceptTOS, // checked already
		Cache:  cache,
		HostPolicy: func(_ context.Context, host string) error {
			if hostOf(host) != o.name {
				return errors.New("another name")
			}
			return nil
		},
		Email:  e.settings.ACME.Email,
		Client: &acme.Client{DirectoryURL: o.ca.url, HTTPClient: &http.Client{Transport: tap, Timeout: caRequestTimeout}, RetryBackoff: backoff},
	}
	if o.ca.eabKeyID != "" {
		m.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: o.ca.eabKeyID, Key: o.ca.eabKey}
	}
	if !e.settings.ACME.NoHTTP {
		m.HTTPHandler(nil) // switches the challenge on; we answer it ourselves
	}
	return m
}

// accountKey is where autocert keeps the account's key.
const accountKey = "acme_account+key"

// register makes the account before the first order. Managers that order at
// once for several names would make one each.
func (e *autocertEngine) register(ctx context.Context, ca *caClient, cache *orderCache, client *acme.Client) error {
	e.registerMu.Lock()
	defer e.registerMu.Unlock()
	if e.registered[ca] {
		return nil
	}
	key, err := e.accountKey(ctx, cache)
	if err != nil {
		return err
	}
	account := &acme.Account{}
	if e.settings.ACME.Email != "" {
		account.Contact = []string{"mailto:" + e.settings.ACME.Email}
	}
	if ca.eabKeyID != "" {
		account.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: ca.eabKeyID, Key: ca.eabKey}
	}
	regClient := &acme.Client{DirectoryURL: client.DirectoryURL, HTTPClient: client.HTTPClient, RetryBackoff: backoff, Key: key}
	if _, err := regClient.Register(ctx, account, autocert.AcceptTOS); err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return err
	}
	e.registered[ca] = true
	return nil
}

// accountKey returns the account's key, as autocert writes it.
func (e *autocertEngine) accountKey(ctx context.Context, cache *orderCache) (crypto.Signer, error) {
	text, err := cache.Get(ctx, accountKey)
	if err == nil {
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, fmt.Errorf("the account's key: %w", errDamaged)
		}
		return x509.ParseECPrivateKey(block.Bytes)
	}
	if !errors.Is(err, autocert.ErrCacheMiss) {
		return nil, fmt.Errorf("read the account's key: %w", err)
	}
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

// backoff repeats what a nonce out of date or a hiccup spoilt; the rest is the
// supervisor's to repeat.
func backoff(n int, _ *http.Request, resp *http.Response) time.Duration {
	if resp.StatusCode == http.StatusBadRequest && n <= 20 || resp.StatusCode >= 500 && n <= 3 {
		return 100 * time.Millisecond
	}
	return -1
}

// clientHello is of a client that knows ECDSA; for others a second
// certificate would be ordered.
func clientHello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:       name,
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:  []tls.CurveID{tls.CurveP256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	}
}

func autocertError(err error, tap *responseTap) *orderError {
	validationErrors, retryAfter := tap.result()
	status := 0
	var problem *acme.Error
	if errors.As(err, &problem) {
		status = problem.StatusCode
		err = fmt.Errorf("the authority says: %s: %s", path.Base(strings.ReplaceAll(problem.ProblemType, ":", "/")), problem.Detail)
	}
	if status == http.StatusBadRequest && strings.HasSuffix(problem.ProblemType, ":badNonce") {
		status = http.StatusServiceUnavailable
	}
	e := classify(status, retryAfter, err)
	if tap.issued() { // and autocert cannot use it: asking again soon would use up what the authority gives in a week
		e.outcome = caRejected
		e.err = fmt.Errorf("the authority gave a certificate that is of no use: %w", err)
	}
	if len(validationErrors) > 0 {
		e.outcome = validationFailed
		e.err = fmt.Errorf("the authority says: %s", strings.Join(validationErrors, "; "))
	}
	return e
}

func (e *autocertEngine) close() {}
