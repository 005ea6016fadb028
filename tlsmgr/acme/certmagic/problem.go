package certmagic

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	acmelib "github.com/mholt/acmez/v3/acme"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/schedule"
)

// orderError classifies an error for the schedule.
func (r *orderRun) orderError(ctx context.Context, err error) *acme.OrderError {
	var e *acme.OrderError
	if !errors.As(err, &e) {
		e = acme.Classify(r.problemStatus(err), r.tap.errorRetryAfter(), plain(err))
		var problem acmelib.Problem
		if errors.As(err, &problem) {
			if _, isAuthorization := problem.Resource.(acmelib.Authorization); isAuthorization {
				e.Outcome = schedule.ValidationFailed
			}
		}
	}
	if r.validated {
		return e
	}
	started := 0
	if r.challengeStarted {
		started = 1
	}
	return acme.TimedOut(ctx, started, e)
}

// problemStatus returns the HTTP status of the response that caused an error, or 0 without
// a response. For a rejected nonce, after the retries of the library, it is 503.
func (r *orderRun) problemStatus(err error) int {
	var problem acmelib.Problem
	switch {
	case isProblem(err, acmelib.ProblemTypeBadNonce):
		return http.StatusServiceUnavailable
	case errors.As(err, &problem):
		return problem.Status
	case strings.Contains(err.Error(), ": HTTP "): // the response is not a problem document
		return r.tap.status
	}
	return 0
}

func isProblem(err error, types ...string) bool {
	var problem acmelib.Problem
	if !errors.As(err, &problem) {
		return false
	}
	for _, t := range types {
		if problem.Type == t {
			return true
		}
	}
	return false
}

// isServerError reports whether the CA can have processed the request despite the error.
func isServerError(err error) bool {
	var problem acmelib.Problem
	return !errors.As(err, &problem) || problem.Status >= 500
}

// plain returns an error with the text of the problem document that err wraps. Without one
// it returns err.
func plain(err error) error {
	var problem acmelib.Problem
	if errors.As(err, &problem) {
		return caError{problemText(problem), err}
	}
	return err
}

// caError has the text of a problem document and wraps the error of the library.
type caError struct{ text, cause error }

func (e caError) Error() string { return e.text.Error() }

func (e caError) Unwrap() error { return e.cause }

func problemText(p acmelib.Problem) error {
	text := strings.TrimPrefix(p.Type, acmelib.ProblemTypeNamespace) + ": " + p.Detail
	for _, sub := range p.Subproblems {
		text += "; " + sub.Detail
	}
	return fmt.Errorf("the CA says: %s", text)
}

// orderRefused returns the error of an order that is invalid although its name is
// validated.
func orderRefused(order acmelib.Order) error {
	err := errors.New("no reason given")
	if order.Error != nil {
		err = problemText(*order.Error)
	}
	return &acme.OrderError{Outcome: schedule.CARejected, Err: fmt.Errorf("the CA validated the name but refused to issue: %w", err)}
}
