package tlsmgr

import (
	"cmp"
	"context"
	"log/slog"

	"inbox/tlsmgr/acme"
)

// InUse reports whether a process runs a [Manager] on this state directory, which
// answers the challenges of a dry run. It writes nothing.
func InUse(stateDir string) bool {
	return acmeDirectory(stateDir, slog.New(slog.DiscardHandler)).InUse()
}

// NewDryRun returns a dry run of the orders of a [Manager] with the same configuration.
// A manager that runs on the same state directory or shared storage answers the
// challenges; without one, the caller serves TLSConfig and HTTPHandler. An inconsistent
// configuration is an error that wraps [ErrUsage].
func NewDryRun(c Config) (*acme.DryRun, error) {
	o := acmeOptions(c)
	if c.Shared == nil && !exists(c.StateDir) {
		o.Storage = nil
	}
	return acme.NewDryRun(o)
}

// Accounts asks each configured CA about the stored account. It writes nothing, and
// returns nil for a configuration that [New] refuses.
func Accounts(ctx context.Context, c Config) []acme.Account {
	accounts, err := acme.Accounts(ctx, acmeOptions(c))
	if err != nil {
		return nil
	}
	return accounts
}

func acmeOptions(c Config) acme.Options {
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	store, _ := stateStorage(c)
	return acme.Options{Config: c.ACME, Domains: c.Domains, Storage: store, Logger: c.Logger}
}
