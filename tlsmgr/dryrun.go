package tlsmgr

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/internal/tlsconfig"
)

// InUse reports whether a process runs a [Manager] on this state directory, which
// answers the challenges of a [DryRun]. It writes nothing.
func InUse(stateDir string) bool {
	return stateDir != "" && acmeDirectory(stateDir, slog.New(slog.DiscardHandler)).InUse()
}

// DryRun makes orders as a [Manager] with the same configuration would, and discards
// what they bring. They go to the staging CA if one is configured (for
// Let's Encrypt by default), else to the CA itself: then failed validations count in the schedule of
// the manager, whose budget holds here, too.
//
// A manager that runs on the same state directory or shared storage answers the
// challenges. Without one the caller serves TLSConfig and HTTPHandler.
type DryRun struct{ run *acme.DryRun }

// NewDryRun prepares orders. An inconsistent configuration is an error that wraps
// [ErrUsage]. [DryRun.Close] removes what it creates.
func NewDryRun(c Config) (*DryRun, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	o := acme.Options{Config: c.ACME, Domains: c.Domains, Logger: c.Logger}
	if c.Shared != nil || exists(c.StateDir) {
		o.Storage, _ = stateStorage(c)
	}
	run, err := acme.NewDryRun(o)
	if err != nil {
		return nil, err
	}
	return &DryRun{run}, nil
}

// AccountState is what a CA says about the account that is stored for it.
type AccountState struct {
	CA, URL string
	Status  acme.AccountStatus
	// Err is why the status is not known. It wraps fs.ErrNotExist without an account.
	Err error
}

// Accounts asks each configured CA about the stored account. It writes nothing, and
// returns nil for a configuration that [New] refuses.
func Accounts(ctx context.Context, c Config) (all []AccountState) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	store, _ := stateStorage(c)
	accounts, err := acme.Accounts(ctx, acme.Options{Config: c.ACME, Domains: c.Domains, Storage: store, Logger: c.Logger})
	if err != nil {
		return nil
	}
	for _, a := range accounts {
		all = append(all, AccountState{CA: a.CA, URL: a.URL, Status: a.Status, Err: a.Err})
	}
	return all
}

// TLSConfig returns a server configuration that answers challenges alone.
func (d *DryRun) TLSConfig() *tls.Config {
	c := tlsconfig.Server(func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if !acme.IsChallenge(hello) {
			return nil, nil
		}
		return d.run.Challenge(hello)
	})
	c.NextProtos = append(c.NextProtos, acme.ALPNProto)
	return c
}

// HTTPHandler answers challenges, and passes other requests to fallback.
func (d *DryRun) HTTPHandler(fallback http.Handler) http.Handler { return d.run.HTTPHandler(fallback) }

// Order makes one order for each name, and returns the first error.
func (d *DryRun) Order(ctx context.Context) error { return d.run.Order(ctx) }

// Close ends what runs in the background, and removes what orders brought.
func (d *DryRun) Close() error { return d.run.Close() }
