package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/storage"
)

const (
	// ALPNProto is the protocol that a CA offers alone when it validates (RFC 8737).
	ALPNProto = "acme-tls/1"
	// TokenPath is the directory of http-01 tokens on port 80 (RFC 8555, 8.3).
	TokenPath = "/.well-known/acme-challenge/"
	// TLSALPN01 and HTTP01 are the challenge types that engines can use.
	TLSALPN01 = "tls-alpn-01"
	HTTP01    = "http-01"
	// OrderTimeout bounds one order. CAs validate within seconds, from several
	// places; Let's Encrypt gives up after about a minute.
	OrderTimeout = 3 * time.Minute
	// ShortLivedProfile is the profile for IP addresses, of Let's Encrypt and Pebble.
	ShortLivedProfile = "shortlived"
)

// Engine orders certificates through an ACME library. It does one thing at a
// time, when called: it has no schedule and repeats nothing. All methods can be
// called concurrently.
type Engine interface {
	// Name identifies the engine in logs and metrics.
	Name() string
	// Load returns the stored certificates of a name, one of each CA at most. The
	// error wraps [ErrDamaged] when a stored value is no certificate; those that
	// could be read come with it.
	Load(ctx context.Context, name string) ([]*Certificate, error)
	// QuarantineDamaged removes stored values that the library would fail on for
	// ever. The caller holds the lock of the name.
	QuarantineDamaged(ctx context.Context, s storage.Storage, name string)
	// ChallengeTypes returns how an order can be tried, the best first.
	ChallengeTypes() []ChallengeType
	// Order obtains a certificate and stores it. The error wraps an [*OrderError].
	// failed counts the validations that could have failed, also without an error.
	Order(ctx context.Context, o Order) (failed int, err error)
	// RenewalInfo asks the CA when to renew. The error can be [ErrNoRenewalInfo].
	RenewalInfo(ctx context.Context, c *Certificate) (schedule.ARI, error)
	// Account asks a CA about the stored account. The error can be fs.ErrNotExist. It
	// writes nothing.
	Account(ctx context.Context, ca *CAClient) (Account, error)
	// AnswerTLS returns the certificate that a tls-alpn-01 hello asks for, or nil.
	// Unless fromStorage, it reads memory alone.
	AnswerTLS(hello *tls.ClientHelloInfo, fromStorage bool) (*tls.Certificate, error)
	// AnswerHTTP returns the text that an http-01 request asks for, or nil. Unless
	// fromStorage, it reads memory alone.
	AnswerHTTP(r *http.Request, fromStorage bool) []byte
	// Close ends what runs in the background.
	Close()
}

// AccountStatus is what a CA says about an account (RFC 8555, 7.1.6), or
// AccountUnknown.
type AccountStatus string

// The statuses of an account. The CA revokes one, and its owner deactivates it. It
// is unknown after a reset of the CA, and to the old key after a key rollover.
const (
	AccountValid       AccountStatus = "valid"
	AccountDeactivated AccountStatus = "deactivated"
	AccountRevoked     AccountStatus = "revoked"
	AccountUnknown     AccountStatus = "unknown to the CA"
)

// Account is an account at a CA.
type Account struct {
	CA, URL string
	Status  AccountStatus
	Err     error // why the status is not known
}

// ChallengeType is one challenge, or several that a library insists on trying
// together.
type ChallengeType struct {
	Name string
	// Validations is how many can fail in one order.
	Validations int
}

// Order is one attempt to obtain a certificate.
type Order struct {
	Name          string
	CA            *CAClient
	ChallengeType ChallengeType
	Directory     *Directory // fetched just before
	// Storage and Challenges are those of [EngineConfig], as the holder of the name's
	// lock sees them.
	Storage, Challenges storage.Storage
	// ResumeURL is a finalized order at the CA, which is looked at instead of a new
	// one; empty: none. The error wraps [ErrOrderGone] when nothing can come of it.
	ResumeURL string
	// OmitReplaces leaves out which certificate the order replaces (RFC 9773, 5),
	// because an order before failed.
	OmitReplaces bool
	// Progress stores how far the order has come: finalized or processing, with its
	// URL. An engine that can resume calls [Order.Report] before it finalizes. nil:
	// it is not stored.
	Progress func(schedule.Phase, string)
}

// Report calls Progress.
func (o *Order) Report(p schedule.Phase, orderURL string) {
	if o.Progress != nil {
		o.Progress(p, orderURL)
	}
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
