package acme

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"

	"inbox/tlsmgr/storage"
)

// Options configure a [Client].
type Options struct {
	Config
	// Domains are the host names and IP addresses to obtain certificates for.
	Domains []string
	// Storage stores accounts, certificates and schedules.
	Storage storage.Storage
	Logger  *slog.Logger // required
	// OnCertificate is called with each certificate that a name is to be served with from
	// then on. New calls it, and several goroutines can call it concurrently.
	OnCertificate func(name string, cert *tls.Certificate)
}

// Client is an ACME client that obtains and renews a certificate for each of its names.
// All methods are safe for concurrent use. Run must be called at most once.
type Client struct {
	challenges *challenges
	scheduler  *scheduler
}

// NameStatus is the status of one name.
type NameStatus struct {
	Name string
	// Text describes the current activity in a few words.
	Text string
	// Err is the current problem, or nil.
	Err error
	// LastAttempt is the time of the last known order; zero if none. NextAttempt is the
	// time of the next order; zero means now.
	LastAttempt, NextAttempt time.Time
	// RenewAt is the time at which the certificate is due for renewal; zero without a
	// certificate, and until its renewal information was requested.
	RenewAt time.Time
	// Failures is the number of failed orders since the last success, and Obtained the
	// number of certificates obtained since the start.
	Failures, Obtained int
}

// restoreTimeout bounds how long New waits for the storage.
const restoreTimeout = 2 * time.Second

// New returns a client, after it has called OnCertificate for the stored certificates. It
// writes nothing. The error wraps [ErrUsage] for an invalid configuration.
func New(o Options) (*Client, error) {
	s, err := resolve(o.Config, o.Domains, o.Logger)
	if err != nil {
		return nil, err
	}
	buffered := storage.NewBuffered(o.Storage, s.Log)
	engine, err := s.newEngine(buffered, buffered)
	if err != nil {
		return nil, err
	}
	r := records{storage: o.Storage, cas: s.caURLs(), log: s.Log}
	c := &Client{newChallenges(s.Names, engine, r.orderInProgress), newScheduler(s, engine, buffered, r, o.OnCertificate)}
	if !c.scheduler.restore(restoreTimeout) {
		s.Log.Warn("the certificate storage is slow; starting without what it holds")
	}
	return c, nil
}

// EngineName returns the name of the engine.
func (c *Client) EngineName() string { return c.scheduler.engine.Name() }

// CAURL returns the directory URL of the first CA.
func (c *Client) CAURL() string { return c.scheduler.CA.URL }

// PubliclyTrusted reports whether clients are expected to trust the certificates.
func (c *Client) PubliclyTrusted() bool { return c.scheduler.publiclyTrusted() }

// Run obtains and renews certificates until ctx ends.
func (c *Client) Run(ctx context.Context) {
	c.scheduler.run(ctx)
	c.scheduler.engine.Close()
}

// ForceRenewal checks all names now. Certificates that are due are ordered as soon as the
// limits of the CA allow.
func (c *Client) ForceRenewal() { c.scheduler.forceRenewal() }

// Challenge returns the certificate for a handshake for which [IsChallenge] is true. If it
// returns nil, nil, crypto/tls sends the alert unrecognized_name.
func (c *Client) Challenge(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.challenges.getCertificate(hello)
}

// HTTPHandler returns a handler that responds to http-01 challenges of this process and of
// others with the same storage, and passes all other requests to fallback.
func (c *Client) HTTPHandler(fallback http.Handler) http.Handler {
	return c.challenges.httpHandler(fallback)
}

// Status returns the status of each name, in the order of the domains.
func (c *Client) Status() []NameStatus {
	now := time.Now()
	var all []NameStatus
	for _, w := range c.scheduler.workers {
		v := w.get()
		n := NameStatus{Name: w.name, Text: v.status(now), Err: v.err(now), Obtained: v.obtained,
			LastAttempt: v.state.LastAttempt, NextAttempt: v.next, Failures: v.state.Failures}
		if v.cert != nil && v.ari.Serial == v.cert.Serial() {
			n.RenewAt = v.renewAt()
		}
		all = append(all, n)
	}
	return all
}

// Accounts returns the status of the stored account at each CA. It writes nothing.
func Accounts(ctx context.Context, o Options) ([]Account, error) {
	s, err := resolve(o.Config, o.Domains, o.Logger)
	if err != nil {
		return nil, err
	}
	engine, err := s.newEngine(o.Storage, o.Storage)
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	var all []Account
	for _, ca := range s.CAs {
		a, err := engine.Account(ctx, ca)
		a.CA, a.Err = ca.URL, err
		all = append(all, a)
	}
	return all, nil
}
