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

// ErrUsage is wrapped by each error about a configuration that is inconsistent, or that
// the engine does not support.
var ErrUsage = errors.New("cannot be configured like this")

// UsageErrorf returns an error that wraps [ErrUsage].
func UsageErrorf(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrUsage, fmt.Sprintf(format, a...))
}

var (
	// ErrDamaged is wrapped by errors about stored values that cannot be parsed.
	ErrDamaged = errors.New("the value is damaged")
	// ErrOrderGone is wrapped by the error of a resumed order that the CA no longer
	// knows, or whose key is lost. A new order can be made immediately.
	ErrOrderGone = errors.New("the order cannot be resumed")
	// ErrOrderPending is wrapped by the error of a finalized order for which the CA has
	// not issued a certificate yet. It is resumed later, before a new order is made.
	ErrOrderPending = errors.New("the CA has not issued the certificate yet")
	// ErrNoRenewalInfo is returned for a CA without renewal information.
	ErrNoRenewalInfo = errors.New("the CA has no renewal information")

	errNoAddress        = errors.New("the name has no address; add an A or AAAA record that points here")
	errStateNotSaved    = errors.New("the schedule cannot be stored, so no certificate is ordered")
	errValidationBudget = errors.New("too many validations have failed in the last hour; " +
		"waiting, so that the CA does not block the name")
)

// OrderError is the error of an order that returned no certificate.
type OrderError struct {
	Outcome schedule.Outcome
	// RetryAfter is the wait that the CA requested; zero if none.
	RetryAfter time.Duration
	// Fix tells the operator what to do; if empty, the outcome decides.
	Fix string
	Err error
}

// Error returns one printable line of bounded length, because most of the text comes
// from the CA or from a proxy, and is written to logs, storage and terminals.
func (e *OrderError) Error() string { return SanitizeText(e.Err.Error()) }

// Unwrap returns the cause.
func (e *OrderError) Unwrap() error { return e.Err }

// maxErrorTextBytes is more than any explanation has.
const maxErrorTextBytes = 2000

// SanitizeText returns untrusted text as one printable line of bounded length.
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

// Classify returns the error for the HTTP status of a CA, which is 0 without a response.
// It does not detect failed validations.
func Classify(status int, retryAfter time.Duration, err error) *OrderError {
	e := &OrderError{Outcome: schedule.CARejected, RetryAfter: retryAfter, Err: err}
	if status == 0 || status == http.StatusTooManyRequests || status >= 500 {
		e.Outcome = schedule.CAUnavailable
	}
	return e
}

// OrderTimeout bounds one order. CAs validate within seconds, from several networks.
// Let's Encrypt gives up after about a minute.
const OrderTimeout = 3 * time.Minute

// TimedOut returns e as a failed validation if the context of the order has timed out
// after a challenge was started. step-ca leaves a challenge that it cannot validate
// pending, and another challenge type can succeed.
func TimedOut(ctx context.Context, startedChallenges int, e *OrderError) *OrderError {
	if startedChallenges == 0 || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return e
	}
	return &OrderError{Outcome: schedule.ValidationFailed, RetryAfter: e.RetryAfter,
		Err: fmt.Errorf("the CA neither validated nor rejected the name within %v: %w", OrderTimeout, e.Err)}
}

// asOrderError returns err as an *OrderError. An error without one means that no order
// was made, so its outcome is schedule.CAUnavailable.
func asOrderError(err error) *OrderError {
	var e *OrderError
	if errors.As(err, &e) {
		return e
	}
	return &OrderError{Err: err}
}

// EABFix is the Fix of an [OrderError] about missing external account binding.
const EABFix = "get a key ID and a MAC key from the CA, and configure them as external account binding"
