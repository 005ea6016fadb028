package tlsmgr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
)

// engine orders certificates through one of the libraries. It does one thing
// at a time, when told to: when to order is the supervisor's alone, so an
// engine has no schedule and repeats nothing.
type engine interface {
	// load returns the certificates in store for a name, one of each authority at
	// most. The error wraps errDamaged when what is there is no certificate; what
	// could be read comes with it.
	load(ctx context.Context, name string) ([]*stored, error)
	// quarantineDamaged sets aside what the library would stumble over for ever. Nobody
	// else orders for the name meanwhile.
	quarantineDamaged(ctx context.Context, name string)
	// challengeTypes are how an order can be tried, the best first.
	challengeTypes() []challengeType
	// probeDirectory asks an authority whether it can be asked at all now. Nothing is
	// ordered by it, so a failure is an *orderError of an order not made.
	probeDirectory(ctx context.Context, ca *caClient) (*directory, error)
	// order obtains a certificate and stores it. Errors wrap an *orderError.
	// With or without one, failed is how many validations may have failed.
	order(ctx context.Context, o order) (failed int, err error)
	// fetchRenewalInfo asks the authority when to renew. It may be errNoRenewalInfo.
	fetchRenewalInfo(ctx context.Context, s *stored) (renewalInfo, error)
	// answerTLS returns the certificate that a challenge hello asks for.
	// Unless fromStorage, it looks into memory alone.
	answerTLS(hello *tls.ClientHelloInfo, fromStorage bool) (*tls.Certificate, error)
	// answerHTTP returns the text that a challenge request asks for, or nil.
	// Unless fromStorage, it looks into memory alone.
	answerHTTP(r *http.Request, fromStorage bool) []byte
	// close ends what runs in the background.
	close()
}

// challengeType is one challenge, or several that the library insists to try together.
type challengeType struct {
	name string
	// validations is how many can fail in one order.
	validations int
}

// The ways of certmagic; autocert tries both.
const (
	tlsALPN01 = "tls-alpn-01"
	http01    = "http-01"
)

type order struct {
	name          string
	ca            *caClient
	challengeType challengeType
	directory     *directory // what the authority said when it was ready
}

// renewalInfo is what an authority says of a certificate: when it should be
// replaced (RFC 9773), and when to ask again.
type renewalInfo struct {
	// Serial tells whose it is.
	Serial string
	// At was chosen at random between From and To, and is zero without them.
	At, From, To time.Time
	RefreshAfter time.Time
	// Why is a page that explains it; may be empty.
	Why string
}

var (
	errDamaged       = errors.New("it is damaged")
	errNoRenewalInfo = errors.New("the authority has no renewal information")
)

// outcome tells orders that came to nothing apart.
type outcome int

const (
	// caUnavailable: the authority was not reached, or had no time for us.
	caUnavailable outcome = iota
	// caRejected: the authority said no.
	caRejected
	// validationFailed: the authority could not validate that the name is ours.
	validationFailed
)

// orderError is why an order came to nothing.
type orderError struct {
	outcome outcome
	// retryAfter is the wait that the authority asked for; zero: none.
	retryAfter time.Duration
	err        error
}

// Error is bounded, and one line: an authority, or who stands in its way, wrote
// most of it, and it goes to the log, the record and a person's terminal.
func (e *orderError) Error() string { return sanitizeText(e.err.Error()) }

// maxErrorTextBytes is more than any explanation needs.
const maxErrorTextBytes = 2000

func sanitizeText(text string) string {
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
func (e *orderError) Unwrap() error { return e.err }

// classify tells by the status of a refusal whether it is final. Which validations
// failed it cannot see.
func classify(status int, retryAfter time.Duration, err error) *orderError {
	e := &orderError{outcome: caRejected, retryAfter: retryAfter, err: err}
	if status == 0 || status == http.StatusTooManyRequests || status >= 500 {
		e.outcome = caUnavailable
	}
	return e
}

// timedOut judges anew an order that ran out of time, ctx, after a challenge
// was laid out. step-ca leaves one pending that it could not follow, and says
// nothing: another way may be open.
func timedOut(ctx context.Context, started int, e *orderError) *orderError {
	if started == 0 || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return e
	}
	return &orderError{outcome: validationFailed, retryAfter: e.retryAfter,
		err: fmt.Errorf("the authority has neither validated the name nor refused it in %v: %w", orderTimeout, e.err)}
}

// asOrderError makes every error an *orderError; an unknown one is of an order not made.
func asOrderError(err error) *orderError {
	var e *orderError
	if errors.As(err, &e) {
		return e
	}
	return &orderError{err: err}
}

// directoryProbe is the engines' common way to find an authority ready: by its
// directory. A silent one costs answerTime; the libraries would wait for minutes.
type directoryProbe struct{}

func (directoryProbe) probeDirectory(ctx context.Context, ca *caClient) (*directory, error) {
	d, err := ca.fetchDirectory(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach the authority: %w", err)
	}
	return d, nil
}

func serial(c *x509.Certificate) string { return c.SerialNumber.Text(16) }
