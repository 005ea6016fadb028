package certmagic

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
	acmelib "github.com/mholt/acmez/v3/acme"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/storage"
)

// noEmail stands for a missing e-mail address in certmagic's storage keys.
const noEmail = "default"

// accountPath returns the storage keys of an account, in certmagic's layout.
func (e *engine) accountPath(ca *acme.CAClient, email string) (registration, key string) {
	email = strings.ToLower(cmp.Or(email, noEmail))
	user, domain, isAddress := strings.Cut(email, "@")
	if isAddress && user == "" {
		user = domain
	}
	safe := certmagic.StorageKeys.Safe
	base := path.Join(e.usersPath(ca), safe(email), safe(user))
	return base + ".json", base + ".key"
}

func (e *engine) usersPath(ca *acme.CAClient) string {
	return path.Join("acme", certmagic.StorageKeys.Safe(e.issuers[ca].IssuerKey()), "users")
}

// loadAccount returns the stored account. Without a configured e-mail address, it can be an
// account with any address. The error wraps fs.ErrNotExist if there is none.
func (e *engine) loadAccount(ctx context.Context, s storage.Storage, ca *acme.CAClient) (acmelib.Account, error) {
	registration, key := e.accountPath(ca, e.Email)
	account, err := readAccount(ctx, s, registration, key)
	if !errors.Is(err, fs.ErrNotExist) || e.Email != "" {
		return account, err
	}
	stored, listErr := s.List(ctx, e.usersPath(ca))
	slices.Sort(stored)
	for _, candidate := range stored {
		if base, isRegistration := strings.CutSuffix(candidate, ".json"); isRegistration && listErr == nil {
			if account, err := readAccount(ctx, s, candidate, base+".key"); err == nil {
				return account, nil
			}
		}
	}
	return account, err
}

func readAccount(ctx context.Context, s storage.Storage, registration, key string) (account acmelib.Account, err error) {
	text, err := s.Load(ctx, registration)
	if err != nil {
		return account, fmt.Errorf("read the account: %w", err)
	}
	keyText, err := s.Load(ctx, key)
	if err != nil {
		return account, fmt.Errorf("read the account key: %w", err)
	}
	if err := json.Unmarshal(text, &account); err != nil {
		return account, fmt.Errorf("the account: %w: %w", acme.ErrDamaged, err)
	}
	if account.PrivateKey, err = certmagic.PEMDecodePrivateKey(keyText); err != nil {
		return account, fmt.Errorf("the account key: %w: %w", acme.ErrDamaged, err)
	}
	return account, nil
}

// useAccount returns the stored account, or registers one.
func (r *orderRun) useAccount(ctx context.Context) (acmelib.Account, error) {
	account, err := r.loadAccount(ctx, r.order.Storage, r.order.CA)
	if err == nil && account.Location != "" {
		return account, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return account, err
	}
	return r.register(ctx, "")
}

// register registers an account with a new key, which replaces the account with the URL
// old. All names and nodes use one account: the first that holds the lock registers it, and
// the others load it.
func (r *orderRun) register(ctx context.Context, old string) (acmelib.Account, error) {
	lock := "register_acme_account_" + cmp.Or(r.Email, noEmail)
	if err := r.store.Lock(ctx, lock); err != nil {
		return acmelib.Account{}, err
	}
	defer r.store.Unlock(ctx, lock)
	account, err := r.loadAccount(ctx, r.order.Storage, r.order.CA)
	if err == nil && account.Location != "" && account.Location != old {
		return account, nil
	}
	if account, err = r.newAccount(ctx); err != nil {
		return account, r.registrationError(err)
	}
	if err := r.saveAccount(ctx, account); err != nil {
		return account, fmt.Errorf("store the account: %w", err)
	}
	r.Log.Info("account registered", "ca", r.order.CA.URL, "account", acme.SanitizeText(account.Location))
	return account, nil
}

func (r *orderRun) newAccount(ctx context.Context) (account acmelib.Account, err error) {
	if account.PrivateKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return account, err
	}
	account.TermsOfServiceAgreed = true // required by acme.Config
	if r.Email != "" {
		account.Contact = []string{"mailto:" + r.Email}
	}
	if ca := r.order.CA; ca.EABKeyID != "" {
		binding := acmelib.EAB{KeyID: ca.EABKeyID, MACKey: base64.RawURLEncoding.EncodeToString(ca.EABKey)}
		if err := account.SetExternalAccountBinding(ctx, r.client, binding); err != nil {
			return account, err
		}
	}
	account, err = r.client.NewAccount(ctx, account)
	if err == nil && account.Location == "" {
		err = errors.New("the response of the CA is incomplete")
	}
	return account, err
}

func (r *orderRun) saveAccount(ctx context.Context, account acmelib.Account) error {
	registration, key := r.accountPath(r.order.CA, r.Email)
	text, err := json.MarshalIndent(account, "", "\t")
	if err != nil {
		return err
	}
	keyText, err := certmagic.PEMEncodePrivateKey(account.PrivateKey)
	if err != nil {
		return err
	}
	if err := r.order.Storage.Store(ctx, key, keyText); err != nil {
		return err
	}
	return r.order.Storage.Store(ctx, registration, text)
}

// registrationError returns the error of a failed registration.
func (r *orderRun) registrationError(err error) error {
	if !isProblem(err, acmelib.ProblemTypeExternalAccountRequired) {
		return fmt.Errorf("register an account: %w", err)
	}
	return &acme.OrderError{Outcome: schedule.CARejected, RetryAfter: r.tap.errorRetryAfter(), Fix: acme.EABFix,
		Err: fmt.Errorf("the CA requires external account binding: %w", plain(err))}
}

// recoverAccount fixes the account after a refused order: it agrees to new terms, or
// registers another account. It reports whether to retry the order; otherwise it returns
// the error of the order.
func (r *orderRun) recoverAccount(ctx context.Context, refusal error) (bool, error) {
	if isProblem(refusal, acmelib.ProblemTypeUserActionRequired) {
		return r.agreeAgain(ctx, refusal)
	}
	why := "the CA requires external account binding"
	switch {
	case isProblem(refusal, acmelib.ProblemTypeExternalAccountRequired):
		if r.order.CA.EABKeyID == "" {
			return false, r.registrationError(refusal)
		}
	case isProblem(refusal, acmelib.ProblemTypeAccountDoesNotExist):
		why = "the CA does not know the account"
	default:
		status, err := r.accountStatus(ctx, r.client, r.account)
		if err != nil || status == acme.AccountValid {
			return false, refusal
		}
		if status == acme.AccountRevoked {
			return false, &acme.OrderError{Outcome: schedule.CARejected, Fix: "ask the CA why it revoked the account, or set another e-mail address, which registers another account",
				Err: fmt.Errorf("the CA has revoked the account %s", r.account.Location)}
		}
		why = "the account is " + string(status)
	}
	r.Log.Warn("the account can no longer be used; registering another", "name", r.order.Name, "ca", r.order.CA.URL,
		"account", acme.SanitizeText(r.account.Location), "why", why)
	account, err := r.register(ctx, r.account.Location)
	if err != nil {
		return false, fmt.Errorf("%s (%s), and registering another failed: %w", why, r.account.Location, err)
	}
	r.account = account
	return true, nil
}

// agreeAgain agrees to changed terms of service, because the operator has agreed to the
// terms of this CA, and logs it.
func (r *orderRun) agreeAgain(ctx context.Context, refusal error) (bool, error) {
	terms := r.termsURL(refusal)
	update := acmelib.Account{Location: r.account.Location, PrivateKey: r.account.PrivateKey, TermsOfServiceAgreed: true, Contact: r.account.Contact}
	if _, err := r.client.UpdateAccount(ctx, update); err != nil {
		return false, &acme.OrderError{Outcome: schedule.CARejected, RetryAfter: r.tap.errorRetryAfter(), Fix: "follow the instructions of the CA at " + terms,
			Err: fmt.Errorf("the CA requires an action (%w), and does not accept the agreement to its terms of service at %s: %w", plain(refusal), terms, plain(err))}
	}
	r.Log.Warn("the CA has changed its terms of service; agreed again as configured", "ca", r.order.CA.URL, "terms", terms)
	return true, nil
}

// termsURL returns the URL at which the CA describes the required action.
func (r *orderRun) termsURL(refusal error) string {
	var problem acmelib.Problem
	errors.As(refusal, &problem)
	return acme.SanitizeText(cmp.Or(problem.Instance, r.tap.termsURL, r.order.Directory.Meta.TermsOfService, r.order.CA.URL))
}

// withAccount adds the URL of the account to a refusal that can be about the account.
func (r *orderRun) withAccount(err error) error {
	if isProblem(err, acmelib.ProblemTypeUnauthorized, acmelib.ProblemTypeUserActionRequired, acmelib.ProblemTypeMalformed) {
		e := r.orderError(context.Background(), err)
		e.Err = fmt.Errorf("%w (account %s)", e.Err, r.account.Location)
		if isProblem(err, acmelib.ProblemTypeUserActionRequired) {
			e.Fix = "follow the instructions of the CA at " + r.termsURL(err)
		}
		return e
	}
	return err
}

// accountStatus returns the status of an account, which it looks up by its key.
func (e *engine) accountStatus(ctx context.Context, client *acmelib.Client, account acmelib.Account) (acme.AccountStatus, error) {
	known, err := client.GetAccount(ctx, acmelib.Account{PrivateKey: account.PrivateKey})
	switch {
	case isProblem(err, acmelib.ProblemTypeAccountDoesNotExist):
		return acme.AccountUnknown, nil
	case isProblem(err, acmelib.ProblemTypeUnauthorized):
		return acme.AccountDeactivated, nil
	case err != nil:
		return "", fmt.Errorf("get the status of the account: %w", plain(err))
	case known.Location != account.Location:
		return acme.AccountUnknown, nil
	}
	return acme.AccountStatus(known.Status), nil
}

// Account implements acme.Engine.
func (e *engine) Account(ctx context.Context, ca *acme.CAClient) (acme.Account, error) {
	account, err := e.loadAccount(ctx, e.Storage, ca)
	if err != nil {
		return acme.Account{}, err
	}
	status, err := e.accountStatus(ctx, newClient(ca, ca.HTTPClient.Transport), account)
	return acme.Account{URL: acme.SanitizeText(account.Location), Status: status}, err
}
