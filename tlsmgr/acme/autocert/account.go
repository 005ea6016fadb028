package autocert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	acmelib "golang.org/x/crypto/acme"

	"inbox/tlsmgr/acme"
)

// Account asks the CA about the account of the stored key.
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

// accountOf asks a CA about the account of a client's key.
func accountOf(ctx context.Context, client *acmelib.Client) (acme.Account, error) {
	account, err := client.GetReg(ctx, "")
	switch {
	case errors.Is(err, acmelib.ErrNoAccount), isProblem(err, "accountDoesNotExist"):
		return acme.Account{Status: acme.AccountUnknown}, nil
	case isProblem(err, "unauthorized"):
		return acme.Account{Status: acme.AccountDeactivated}, nil
	case err != nil:
		return acme.Account{}, fmt.Errorf("ask the CA about the account: %w", err)
	}
	return acme.Account{URL: acme.SanitizeText(account.URI), Status: acme.AccountStatus(account.Status)}, nil
}

// recoverAccount gives up an account that cannot order any more, so that the next
// order registers another. Agreeing to changed terms of service needs another one,
// too: x/crypto/acme cannot agree for an existing account.
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
	r.Log.Warn("the account cannot order any more; registering another", "name", r.request.Name, "ca", r.request.CA.URL,
		"why", why, "terms", r.tap.observed().termsURL)
	return r.replaceAccountKey(ctx) == nil
}

// replaceAccountKey stores another key, which the next order registers.
func (r *orderRun) replaceAccountKey(ctx context.Context) error {
	r.registerMu.Lock()
	defer r.registerMu.Unlock()
	r.registered[r.request.CA] = false
	_, err := createAccountKey(ctx, r.cache)
	return err
}

// isProblem reports whether an error is a problem document of a kind (RFC 8555, 6.7).
func isProblem(err error, kind string) bool {
	var problem *acmelib.Error
	return errors.As(err, &problem) && problem.ProblemType == "urn:ietf:params:acme:error:"+kind
}

// explainAccount completes the error about an account that cannot order.
func (r *orderRun) explainAccount(e *acme.OrderError, cause error) {
	switch {
	case isProblem(cause, "externalAccountRequired"):
		e.Fix = acme.EABFix
		e.Err = fmt.Errorf("the CA requires external account binding: %w", e.Err)
	case isProblem(cause, "userActionRequired"):
		var directoryTerms string
		if r.request.Directory != nil {
			directoryTerms = r.request.Directory.Meta.TermsOfService
		}
		e.Fix = "do what the CA asks for at " + cmp.Or(r.tap.observed().termsURL, directoryTerms, r.request.CA.URL)
	case isProblem(cause, "unauthorized"), isProblem(cause, "malformed"):
		if r.tap.account != nil && r.tap.account.KID != "" {
			e.Err = fmt.Errorf("%w (account %s)", e.Err, r.tap.account.KID)
		}
	}
}

// problemText returns the words of the CA.
func problemText(p *acmelib.Error) error {
	return fmt.Errorf("the CA says: %s: %s", path.Base(strings.ReplaceAll(p.ProblemType, ":", "/")), p.Detail)
}
