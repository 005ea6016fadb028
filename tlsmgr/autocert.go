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

// withAutocert is the engine that stands on autocert. A Manager orders when a
// client connects, renews when it likes, and cannot be stopped. So each order
// has a Manager of its own, which is asked by a client that does not exist, and
// put out of action once it answered.
type withAutocert struct {
	asksFirst
	set    *settings
	keeper *keeper
	place  place
	mender mender

	mu      sync.Mutex
	running map[string]*orderCache // by name

	registering sync.Mutex
	registered  map[*authority]bool
}

func newAutocert(s *settings, k *keeper, p place) *withAutocert {
	return &withAutocert{set: s, keeper: k, place: p, mender: menderOf(p), running: map[string]*orderCache{}, registered: map[*authority]bool{}}
}

// ways is one: autocert tries TLS first and then, when it may, HTTP.
func (e *withAutocert) ways() []way {
	if e.set.ACME.NoHTTP {
		return []way{{overTLS, 1}}
	}
	return []way{{overTLS + ", " + overHTTP, 2}}
}

func (e *withAutocert) key(ca *authority, name string) string {
	return path.Join("autocert", ca.key, name)
}

func (e *withAutocert) load(ctx context.Context, name string) ([]*stored, error) {
	ca := e.set.cas[0]
	bundle, err := e.keeper.Load(ctx, e.key(ca, name))
	if missing(err) {
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

func (e *withAutocert) mend(ctx context.Context, name string) {
	if _, err := e.load(ctx, name); errors.Is(err, errDamaged) {
		e.place.aside(ctx, e.key(e.set.cas[0], name))
	}
	e.mender.each("autocert/*/"+accountKey, isPEM)
}

func (e *withAutocert) renewal(context.Context, *stored) (renewal, error) {
	return renewal{}, errNoRenewalInfo
}

func (e *withAutocert) order(ctx context.Context, o order) (failed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	cache := &orderCache{engine: e, order: o}
	seen := &observer{ctx: ctx, next: o.ca.client.Transport}
	m := e.manager(o, cache, seen)
	if err := e.register(ctx, o.ca, cache, m.Client); err != nil {
		return 0, autocertError(err, seen)
	}
	e.start(o.name, cache)
	defer e.end(o.name)
	defer cache.retired.Store(true)
	_, err = m.GetCertificate(clientHello(o.name))
	begun := int(cache.begun.Load())
	if err == nil {
		return max(begun-1, 0), nil // the last one was valid
	}
	return begun, unanswered(ctx, begun, autocertError(err, seen))
}

func (e *withAutocert) manager(o order, cache *orderCache, seen *observer) *autocert.Manager {
	m := &autocert.Manager{
		Prompt: autocert.AcceptTOS, // checked already
		Cache:  cache,
		HostPolicy: func(_ context.Context, host string) error {
			if hostOf(host) != o.name {
				return errors.New("another name")
			}
			return nil
		},
		Email:  e.set.ACME.Email,
		Client: &acme.Client{DirectoryURL: o.ca.url, HTTPClient: &http.Client{Transport: seen, Timeout: answerTime}, RetryBackoff: backoff},
	}
	if o.ca.keyID != "" {
		m.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: o.ca.keyID, Key: o.ca.macKey}
	}
	if !e.set.ACME.NoHTTP {
		m.HTTPHandler(nil) // switches the challenge on; we answer it ourselves
	}
	return m
}

// accountKey is where autocert keeps the account's key.
const accountKey = "acme_account+key"

// register makes the account before the first order. Managers that order at
// once for several names would make one each.
func (e *withAutocert) register(ctx context.Context, ca *authority, cache *orderCache, client *acme.Client) error {
	e.registering.Lock()
	defer e.registering.Unlock()
	if e.registered[ca] {
		return nil
	}
	key, err := e.accountKey(ctx, cache)
	if err != nil {
		return err
	}
	account := &acme.Account{}
	if e.set.ACME.Email != "" {
		account.Contact = []string{"mailto:" + e.set.ACME.Email}
	}
	if ca.keyID != "" {
		account.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: ca.keyID, Key: ca.macKey}
	}
	ours := &acme.Client{DirectoryURL: client.DirectoryURL, HTTPClient: client.HTTPClient, RetryBackoff: backoff, Key: key}
	if _, err := ours.Register(ctx, account, autocert.AcceptTOS); err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return err
	}
	e.registered[ca] = true
	return nil
}

// accountKey returns the account's key, as autocert writes it.
func (e *withAutocert) accountKey(ctx context.Context, cache *orderCache) (crypto.Signer, error) {
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
func backoff(n int, _ *http.Request, answer *http.Response) time.Duration {
	if answer.StatusCode == http.StatusBadRequest && n <= 20 || answer.StatusCode >= 500 && n <= 3 {
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

func autocertError(err error, seen *observer) *orderError {
	said, wait := seen.result()
	status := 0
	var problem *acme.Error
	if errors.As(err, &problem) {
		status = problem.StatusCode
		err = fmt.Errorf("the authority says: %s: %s", path.Base(strings.ReplaceAll(problem.ProblemType, ":", "/")), problem.Detail)
	}
	if status == http.StatusBadRequest && strings.HasSuffix(problem.ProblemType, ":badNonce") {
		status = http.StatusServiceUnavailable
	}
	e := judge(status, wait, err)
	if seen.issued() { // and autocert cannot use it: asking again soon would use up what the authority gives in a week
		e.outcome = refused
		e.err = fmt.Errorf("the authority gave a certificate that is of no use: %w", err)
	}
	if len(said) > 0 {
		e.outcome = invalid
		e.err = fmt.Errorf("the authority says: %s", strings.Join(said, "; "))
	}
	return e
}

func (e *withAutocert) close() {}
