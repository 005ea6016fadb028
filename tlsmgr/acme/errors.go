package acme

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"inbox/tlsmgr/acme/schedule"
)

// ErrUsage is wrapped by each error of a configuration that contradicts itself,
// or that asks for what an engine cannot do.
var ErrUsage = errors.New("cannot be configured like this")

// UsageErrorf returns an error that wraps [ErrUsage].
func UsageErrorf(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrUsage, fmt.Sprintf(format, a...))
}

var (
	// ErrDamaged is wrapped by errors about stored values that are not what they
	// should be.
	ErrDamaged = errors.New("the value is damaged")
	// ErrOrderGone is wrapped by the error of a resumed order that its CA does not
	// know any more, or whose key is lost. A new order can be made at once.
	ErrOrderGone = errors.New("the order cannot be continued")
	// ErrOrderPending is wrapped by the error of a finalized order for which the CA
	// has issued nothing yet. It is looked at again before a new one is made.
	ErrOrderPending = errors.New("the CA has not issued the certificate yet")
	// ErrNoRenewalInfo is returned for a CA without renewal information.
	ErrNoRenewalInfo = errors.New("the CA has no renewal information")

	errNoAddress        = errors.New("the name has no address; add an A or AAAA record that points here")
	errStateNotSaved    = errors.New("the schedule cannot be stored, so nothing is ordered")
	errValidationBudget = errors.New("too many validations have failed in the last hour; " +
		"waiting, so that the CA does not block the name")
)

// OrderError tells why an order brought no certificate.
type OrderError struct {
	Outcome schedule.Outcome
	// RetryAfter is the wait that the CA asked for; zero: none.
	RetryAfter time.Duration
	// Fix says what to do; empty: what the outcome suggests.
	Fix string
	Err error
}

// Error returns one bounded line: a CA, or what stands in its way, wrote most of
// it, and it goes to logs, storage and terminals.
func (e *OrderError) Error() string { return SanitizeText(e.Err.Error()) }

// Unwrap returns the cause.
func (e *OrderError) Unwrap() error { return e.Err }

// maxErrorTextBytes exceeds any explanation.
const maxErrorTextBytes = 2000

// SanitizeText returns a text from outside as one printable line of bounded length.
func SanitizeText(text string) string {
	if len(text) > maxErrorTextBytes {
		text = text[:maxErrorTextBytes] + " …"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
}

// Classify returns the error for an HTTP status of a CA, 0 for no response. It
// cannot see which validations failed.
func Classify(status int, retryAfter time.Duration, err error) *OrderError {
	e := &OrderError{Outcome: schedule.CARejected, RetryAfter: retryAfter, Err: err}
	if status == 0 || status == http.StatusTooManyRequests || status >= 500 {
		e.Outcome = schedule.CAUnavailable
	}
	return e
}

// OrderTimeout bounds one order. CAs validate within seconds, from several places;
// Let's Encrypt gives up after about a minute.
const OrderTimeout = 3 * time.Minute

// TimedOut reclassifies the error of an order whose context ran out of time after
// a challenge was started. step-ca leaves a challenge pending that it could not
// follow: another challenge type can work.
func TimedOut(ctx context.Context, startedChallenges int, e *OrderError) *OrderError {
	if startedChallenges == 0 || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return e
	}
	return &OrderError{Outcome: schedule.ValidationFailed, RetryAfter: e.RetryAfter,
		Err: fmt.Errorf("the CA neither validated nor rejected the name within %v: %w", OrderTimeout, e.Err)}
}

// asOrderError returns any error as an *OrderError. An unknown one is about an
// order that was not made.
func asOrderError(err error) *OrderError {
	var e *OrderError
	if errors.As(err, &e) {
		return e
	}
	return &OrderError{Err: err}
}

// EABFix is the [OrderError] Fix for a CA that demands external account binding.
const EABFix = "get a key ID and a MAC key from the CA, and configure them as external account binding"
