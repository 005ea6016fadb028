package autocert

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"

	acmelib "golang.org/x/crypto/acme"

	"inbox/tlsmgr/acme"

	"golang.org/x/crypto/acme/autocert"
)

// Account implements acme.Engine. It looks up the account of the stored key.
func (e *engine) Account(ctx context.Context, ca *acme.CAClient) (acme.Account, error) {
	text, err := e.Storage.Load(ctx, keyOf(ca, accountKey))
	if err != nil {
		return acme.Account{}, fmt.Errorf("read the account key: %w", err)
	}
	key, err := parseAccountKey(text)
	if err != nil {
		return acme.Account{}, err
	}
	return accountOf(ctx, &acmelib.Client{DirectoryURL: ca.URL, HTTPClient: ca.HTTPClient, RetryBackoff: retryDelay, Key: key})
}

// accountOf returns the account of a client's key.
func accountOf(ctx context.Context, client *acmelib.Client) (acme.Account, error) {
	account, err := client.GetReg(ctx, "")
	switch {
	case errors.Is(err, acmelib.ErrNoAccount), isProblem(err, "accountDoesNotExist"):
		return acme.Account{Status: acme.AccountUnknown}, nil
	case isProblem(err, "unauthorized"):
		return acme.Account{Status: acme.AccountDeactivated}, nil
	case err != nil:
		return acme.Account{}, fmt.Errorf("get the status of the account: %w", err)
	}
	return acme.Account{URL: acme.SanitizeText(account.URI), Status: acme.AccountStatus(account.Status)}, nil
}

// recoverAccount replaces the key of an account that can no longer be used, so that the
// next order registers another account. It does so for changed terms of service, too,
// because x/crypto/acme cannot agree for an existing account. It reports whether to retry
// the order.
func (r *orderRun) recoverAccount(ctx context.Context, refusal error) bool {
	var problem *acmelib.Error
	if r.tap.account == nil || r.cache.startedChallenges.Load() > 0 || ctx.Err() != nil || !errors.As(refusal, &problem) {
		return false
	}
	var why string
	switch {
	case isProblem(refusal, "userActionRequired"):
		why = "the CA has changed its terms of service; agreeing again as configured"
	case isProblem(refusal, "externalAccountRequired"):
		if r.request.CA.EABKeyID == "" {
			return false
		}
		why = "the CA requires external account binding"
	case problem.StatusCode < 400 || problem.StatusCode >= 500 || isProblem(refusal, "rateLimited") || isProblem(refusal, "badNonce"):
		return false
	default:
		account, err := accountOf(ctx, r.tap.account)
		if err != nil || account.Status != acme.AccountUnknown && account.Status != acme.AccountDeactivated {
			return false
		}
		why = "the account is " + string(account.Status)
	}
	r.Log.Warn("the account can no longer be used; registering another", "name", r.request.Name, "ca", r.request.CA.URL,
		"why", why, "terms", r.tap.observed().termsURL)
	return r.replaceAccountKey(ctx) == nil
}

// replaceAccountKey stores a new key, which the next order registers.
func (r *orderRun) replaceAccountKey(ctx context.Context) error {
	r.registerMu.Lock()
	defer r.registerMu.Unlock()
	r.registered[r.request.CA] = false
	_, err := createAccountKey(ctx, r.cache)
	return err
}

// register registers the account before the first order, because the Managers of several
// names would register one each. It returns a client for the account.
func (e *engine) register(ctx context.Context, ca *acme.CAClient, cache *orderCache, client *acmelib.Client) (*acmelib.Client, error) {
	e.registerMu.Lock()
	defer e.registerMu.Unlock()
	key, err := loadAccountKey(ctx, cache)
	if err != nil {
		return nil, err
	}
	// It bypasses the tap, which observes the order.
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

// loadAccountKey loads the account key in the format of autocert, or creates one.
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

func parseAccountKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("the account key: %w", acme.ErrDamaged)
	}
	return x509.ParseECPrivateKey(block.Bytes)
}

// retryDelay retries a request after a rejected nonce or a server error. The scheduler
// retries after other errors.
func retryDelay(n int, _ *http.Request, resp *http.Response) time.Duration {
	if resp.StatusCode == http.StatusBadRequest && n <= 20 || resp.StatusCode >= 500 && n <= 3 {
		return 100 * time.Millisecond
	}
	return -1
}

func binding(ca *acme.CAClient) *acmelib.ExternalAccountBinding {
	if ca.EABKeyID == "" {
		return nil
	}
	return &acmelib.ExternalAccountBinding{KID: ca.EABKeyID, Key: ca.EABKey}
}
