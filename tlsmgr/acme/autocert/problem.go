package autocert

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	acmelib "golang.org/x/crypto/acme"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/schedule"
)

// orderError classifies an error for the schedule.
func (r *orderRun) orderError(err error) *acme.OrderError {
	e := orderError(err, r.tap)
	r.explainAccount(e, err)
	return e
}

func orderError(err error, tap *responseTap) *acme.OrderError {
	seen, status, cause := tap.observed(), 0, err
	var problem *acmelib.Error
	if errors.As(err, &problem) {
		status, err = problem.StatusCode, problemText(problem)
	}
	if isProblem(cause, "badNonce") {
		status = http.StatusServiceUnavailable
	}
	e := acme.Classify(status, seen.retryAfter, err)
	switch {
	case seen.issued: // an early retry would use up the weekly limit of the CA
		e.Outcome = schedule.CARejected
		e.Err = fmt.Errorf("the CA issued a certificate that autocert cannot use: %w", err)
	case seen.finalized: // the CA can have issued
		e.Outcome = schedule.CARejected
		e.Err = fmt.Errorf("the name is validated, and the order was finalized, but returned no certificate: %w", err)
	case len(seen.validationErrors) > 0:
		e.Outcome = schedule.ValidationFailed
		e.Err = fmt.Errorf("the CA says: %s", strings.Join(seen.validationErrors, "; "))
	}
	return e
}

// isProblem reports whether an error wraps a problem document of a kind (RFC 8555, 6.7).
func isProblem(err error, kind string) bool {
	var problem *acmelib.Error
	return errors.As(err, &problem) && problem.ProblemType == "urn:ietf:params:acme:error:"+kind
}

// problemText returns the text of a problem document.
func problemText(p *acmelib.Error) error {
	return fmt.Errorf("the CA says: %s: %s", path.Base(strings.ReplaceAll(p.ProblemType, ":", "/")), p.Detail)
}

// explainAccount adds the account and a fix to an error about the account.
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
		e.Fix = "follow the instructions of the CA at " + cmp.Or(r.tap.observed().termsURL, directoryTerms, r.request.CA.URL)
	case isProblem(cause, "unauthorized"), isProblem(cause, "malformed"):
		if r.tap.account != nil && r.tap.account.KID != "" {
			e.Err = fmt.Errorf("%w (account %s)", e.Err, r.tap.account.KID)
		}
	}
}
