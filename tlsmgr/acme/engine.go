package acme

import (
	"context"
	"crypto/tls"
	"net/http"

	"inbox/tlsmgr/acme/schedule"
	"inbox/tlsmgr/storage"
)

const (
	// ALPNProto is the only protocol that a CA offers in a tls-alpn-01 validation (RFC 8737).
	ALPNProto = "acme-tls/1"
	// TokenPath is the URL path prefix of http-01 tokens (RFC 8555, 8.3).
	TokenPath = "/.well-known/acme-challenge/"
	// TLSALPN01 and HTTP01 are the challenge types that engines can use.
	TLSALPN01 = "tls-alpn-01"
	HTTP01    = "http-01"
	// ShortLivedProfile is the certificate profile for IP addresses of Let's Encrypt and
	// Pebble.
	ShortLivedProfile = "shortlived"
)

// Engine orders certificates with an ACME library. It acts only when called: it has no
// schedule, and does not retry orders. Its methods are safe for concurrent use.
type Engine interface {
	// Name identifies the engine in logs and metrics.
	Name() string
	// Load returns the stored certificates of a name, at most one per CA. If some cannot
	// be loaded, it returns the others with an error, which wraps [ErrDamaged] for values
	// that cannot be parsed.
	Load(ctx context.Context, name string) ([]*Certificate, error)
	// QuarantineDamaged quarantines stored values on which each order would fail. The
	// caller holds the lock of the name.
	QuarantineDamaged(ctx context.Context, s storage.Storage, name string)
	// ChallengeTypes returns the challenge types to try, in order of preference.
	ChallengeTypes() []ChallengeType
	// Order obtains a certificate and stores it. The error wraps an [*OrderError]. failed
	// is the number of validations that can have failed; an order that succeeds can have
	// some, too.
	Order(ctx context.Context, o Order) (failed int, err error)
	// RenewalInfo fetches the renewal information of the CA (ARI). The error is
	// [ErrNoRenewalInfo] if the CA has none.
	RenewalInfo(ctx context.Context, c *Certificate) (schedule.ARI, error)
	// Account returns the status of the stored account at a CA. The error wraps
	// fs.ErrNotExist if no account is stored. It writes nothing.
	Account(ctx context.Context, ca *CAClient) (Account, error)
	// AnswerTLS returns the certificate for a tls-alpn-01 handshake, or nil. It reads only
	// memory unless fromStorage is set.
	AnswerTLS(hello *tls.ClientHelloInfo, fromStorage bool) (*tls.Certificate, error)
	// AnswerHTTP returns the response body for an http-01 request, or nil. It reads only
	// memory unless fromStorage is set.
	AnswerHTTP(r *http.Request, fromStorage bool) []byte
	// Close stops the goroutines of the engine.
	Close()
}

// AccountStatus is the status of an account at a CA (RFC 8555, 7.1.6), or
// [AccountUnknown].
type AccountStatus string

// The statuses. A CA revokes an account, and the owner deactivates it. An account is
// unknown after a reset of the CA, or with its old key after a key rollover.
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
	Err     error // the reason why Status is not known, or nil
}

// ChallengeType is a challenge type, or several that a library tries in one order.
type ChallengeType struct {
	Name string
	// Validations is the number of validations that can fail in one order.
	Validations int
}

// Order is one attempt to obtain a certificate.
type Order struct {
	Name          string
	CA            *CAClient
	ChallengeType ChallengeType
	Directory     *Directory // of the CA, fetched for this order
	// Storage and Challenges are those of [Settings]. Writes succeed only while the lock
	// of the name is held.
	Storage, Challenges storage.Storage
	// ResumeURL is the URL of a finalized order to resume; empty for a new order. The
	// error wraps [ErrOrderGone] if it cannot be resumed.
	ResumeURL string
	// OmitReplaces omits the certificate that the order replaces (RFC 9773, 5), because
	// the previous order failed.
	OmitReplaces bool
	// Progress stores the phase, finalized or processing, and the URL of the order. An
	// engine that can resume orders calls it before it finalizes one. It is not nil.
	Progress func(p schedule.Phase, orderURL string)
}
