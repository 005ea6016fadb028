package acme

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"

	"inbox/tlsmgr/storage"
)

// Options is what a [Client] works with.
type Options struct {
	Config
	// Domains are the names and addresses to certify.
	Domains []string
	// Storage keeps accounts, certificates and schedules.
	Storage storage.Storage
	Logger  *slog.Logger // required
	// OnCertificate receives each certificate that a name should be served with from
	// now on. It can be called from several goroutines, and by New.
	OnCertificate func(name string, cert *tls.Certificate)
}

// Client keeps a certificate for each of its names. All methods can be called
// concurrently; Run is called once.
type Client struct {
	challenges *challenges
	scheduler  *scheduler
}

// NameStatus is what a [Client] knows of one name.
type NameStatus struct {
	Name string
	// Text describes what is done for the name, in a few words.
	Text string
	// Err is what is wrong; nil when nothing is.
	Err error
	// LastAttempt is the time of the last order, and NextAttempt the time of the next
	// one; zero: none is known, and now.
	LastAttempt, NextAttempt time.Time
	// RenewAt is when the certificate is due; zero without a certificate, and until the
	// CA has been asked about it.
	RenewAt time.Time
	// Failures counts the failed orders since the last success, and Obtained the
	// certificates obtained since the start.
	Failures, Obtained int
}

// restoreTimeout bounds the wait for slow storage at the start.
const restoreTimeout = 2 * time.Second

// New returns a client that has passed the stored certificates to OnCertificate. It writes
// nothing. An invalid configuration is an [ErrUsage].
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

// newEngine completes the settings.
func (s *Settings) newEngine(values, challenges storage.Storage) (Engine, error) {
	s.Storage, s.Challenges = values, challenges
	return s.Engine(s)
}

// EngineName returns the name of the engine.
func (c *Client) EngineName() string { return c.scheduler.engine.Name() }

// CAURL returns the directory URL of the first CA.
func (c *Client) CAURL() string { return c.scheduler.CA.URL }

// PubliclyTrusted reports whether browsers are meant to trust the certificates.
func (c *Client) PubliclyTrusted() bool { return c.scheduler.publiclyTrusted() }

// Run obtains and renews certificates until ctx ends.
func (c *Client) Run(ctx context.Context) {
	c.scheduler.run(ctx)
	c.scheduler.engine.Close()
}

// ForceRenewal checks all names now, and orders what is due as soon as the limits
// of the CA allow.
func (c *Client) ForceRenewal() { c.scheduler.forceRenewal() }

// Challenge answers a hello for which [IsChallenge] is true. (nil, nil) makes
// crypto/tls send unrecognized_name.
func (c *Client) Challenge(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.challenges.getCertificate(hello)
}

// HTTPHandler answers challenges on port 80 and leaves the rest to fallback. It
// answers those of other processes with the same storage, too.
func (c *Client) HTTPHandler(fallback http.Handler) http.Handler {
	return c.challenges.httpHandler(fallback)
}

// Status returns the status of each name, in the order of Names.
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

// Accounts asks each CA about the stored account. It writes nothing.
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
