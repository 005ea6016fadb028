package main

import (
	"context"
	"crypto/x509"
	"log/slog"
	"os"
	"slices"

	"inbox/cmd/inbox/internal/doctor"
	"inbox/tlsmgr"
)

// doctorConfig returns the doctor's configuration for a server with these options.
func doctorConfig(c *config, p process) doctor.Config {
	dir, err := chooseStateDir(c.state, p.environ)
	if err != nil {
		dir = ""
	}
	return doctor.Config{
		Domains: c.domains, Email: c.email, TermsAgreed: c.acme.agree,
		Bind: c.bind, HTTPBind: c.httpBind, HTTPS: c.https,
		CertFile: c.serverCert, KeyFile: c.serverKey, StateDir: dir,
		CAURL: c.acme.ca.url, SecondCAURL: c.acme.second.url,
		Roots: loadRoots(c.acme.ca.root), SecondRoots: loadRoots(c.acme.second.root),
		Staging: c.acme.staging, Engine: c.acme.engine, Profile: c.acme.profile,
		ExternalAccount: c.acme.ca.keyID != "", SecondAccount: c.acme.second.keyID != "",
		JSON: c.asJSON, RenewTest: c.renewTest,
		Store:    c.examineStore(),
		DryRun:   func(ctx context.Context) error { return dryRunOrder(ctx, c, dir) },
		Accounts: func(ctx context.Context) []tlsmgr.AccountState { return storedAccounts(ctx, c, dir) },
		States:   func() []tlsmgr.NameState { return storedCertificates(c, dir) },
	}
}

// loadRoots reads a file of root certificates. It returns nil, for the system's roots,
// without a path, and an empty pool if the file cannot be read, so that the doctor's check
// of the CA fails.
func loadRoots(path string) *x509.CertPool {
	if path == "" {
		return nil
	}
	pool := x509.NewCertPool()
	if text, err := os.ReadFile(path); err == nil {
		pool.AppendCertsFromPEM(text)
	}
	return pool
}

// storedCertificates returns the state of the certificates that a server would load.
func storedCertificates(c *config, dir string) []tlsmgr.NameState {
	if len(c.domains) == 0 || dir == "" && !c.store.shared() {
		return nil
	}
	config := c.tlsmgrConfig(dir, listeners{}, slog.New(slog.DiscardHandler))
	if c.store.shared() {
		store := c.openUsedStore()
		if store == nil {
			return nil // the check of the store reports the reason
		}
		defer store.Shutdown()
		config.Shared = c.sharedCertificates(store, config.Logger)
	}
	config.ACME.NoHTTP = false // satisfies New; no port is opened and nothing is ordered
	source, err := tlsmgr.New(config)
	if err != nil {
		return nil // other checks report invalid options
	}
	return source.State()
}

// storedAccounts asks the CAs about the accounts that a server would order with. Those
// in a shared store are not examined.
func storedAccounts(ctx context.Context, c *config, dir string) []tlsmgr.AccountState {
	if len(c.domains) == 0 || dir == "" || c.store.shared() {
		return nil
	}
	config := c.tlsmgrConfig(dir, listeners{}, slog.New(slog.DiscardHandler))
	config.ACME.NoHTTP = false // satisfies the configuration; no port is opened
	return tlsmgr.Accounts(ctx, config)
}

// preflight logs the doctor's findings if a name has no ACME certificate yet. Orders do
// not wait for it.
func (s *server) preflight(ctx context.Context) {
	missing := func(state tlsmgr.NameState) bool { return state.Source != "acme" }
	if len(s.cfg.domains) == 0 || !s.cfg.acme.preflight || !slices.ContainsFunc(s.source.State(), missing) {
		return
	}
	doctorCfg := doctorConfig(s.cfg, s.process)
	doctorCfg.States, doctorCfg.Accounts, doctorCfg.InServer = nil, nil, true // the server logs about certificates and accounts
	for _, f := range doctorCfg.Examine(ctx) {
		if f.Level != doctor.OK && ctx.Err() == nil {
			s.log.Warn("doctor: "+f.Text, "check", f.Check, "name", f.Name, "fix", f.Fix)
		}
	}
}
