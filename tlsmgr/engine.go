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
	// mend sets aside what the library would stumble over for ever. Nobody
	// else orders for the name meanwhile.
	mend(ctx context.Context, name string)
	// ways are how an order can be tried, the best first.
	ways() []way
	// ready asks an authority whether it can be asked at all now. Nothing is
	// ordered by it, so a failure is an *orderError of an order not made.
	ready(ctx context.Context, ca *authority) (*directory, error)
	// order obtains a certificate and stores it. Errors wrap an *orderError.
	// With or without one, failed is how many validations may have failed.
	order(ctx context.Context, o order) (failed int, err error)
	// renewal asks the authority when to renew. It may be errNoRenewalInfo.
	renewal(ctx context.Context, s *stored) (renewal, error)
	// answerTLS returns the certificate that a challenge hello asks for.
	// Unless deep, it looks into memory alone.
	answerTLS(hello *tls.ClientHelloInfo, deep bool) (*tls.Certificate, error)
	// answerHTTP returns the text that a challenge request asks for, or nil.
	// Unless deep, it looks into memory alone.
	answerHTTP(r *http.Request, deep bool) []byte
	// close ends what runs in the background.
	close()
}

// way is one challenge, or several that the library insists to try together.
type way struct {
	name string
	// validations is how many can fail in one order.
	validations int
}

// The ways of certmagic; autocert tries both.
const (
	overTLS  = "tls-alpn-01"
	overHTTP = "http-01"
)

type order struct {
	name   string
	ca     *authority
	way    way
	offers *directory // what the authority said when it was ready
}

// renewal is what an authority says of a certificate: when it should be
// replaced (RFC 9773), and when to ask again.
type renewal struct {
	// Serial tells whose it is.
	Serial string
	// At was chosen at random between From and To, and is zero without them.
	At, From, To time.Time
	AskAgain     time.Time
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
	// notMade: the authority was not reached, or had no time for us.
	notMade outcome = iota
	// refused: the authority said no.
	refused
	// invalid: the authority could not validate that the name is ours.
	invalid
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
func (e *orderError) Error() string { return clip(e.err.Error()) }

// clipBytes is more than any explanation needs.
const clipBytes = 2000

func clip(text string) string {
	if len(text) > clipBytes {
		text = text[:clipBytes] + " …"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
}
func (e *orderError) Unwrap() error { return e.err }

// judge tells by the status of a refusal whether it is final. Which validations
// failed it cannot see.
func judge(status int, retryAfter time.Duration, err error) *orderError {
	e := &orderError{outcome: refused, retryAfter: retryAfter, err: err}
	if status == 0 || status == http.StatusTooManyRequests || status >= 500 {
		e.outcome = notMade
	}
	return e
}

// unanswered judges anew an order that ran out of time, ctx, after a challenge
// was laid out. step-ca leaves one pending that it could not follow, and says
// nothing: another way may be open.
func unanswered(ctx context.Context, begun int, e *orderError) *orderError {
	if begun == 0 || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return e
	}
	return &orderError{outcome: invalid, retryAfter: e.retryAfter,
		err: fmt.Errorf("the authority has neither validated the name nor refused it in %v: %w", orderTime, e.err)}
}

// asOrderError makes every error an *orderError; an unknown one is of an order not made.
func asOrderError(err error) *orderError {
	var e *orderError
	if errors.As(err, &e) {
		return e
	}
	return &orderError{err: err}
}

// asksFirst is the engines' common way to find an authority ready: by its
// directory. A silent one costs answerTime; the libraries would wait for minutes.
type asksFirst struct{}

func (asksFirst) ready(ctx context.Context, ca *authority) (*directory, error) {
	d, err := ca.directory(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach the authority: %w", err)
	}
	return d, nil
}

func serial(c *x509.Certificate) string { return c.SerialNumber.Text(16) }
