package server

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"inbox/cmd/inbox/internal/access"
	"inbox/cmd/inbox/internal/config"
	"inbox/cmd/inbox/internal/doctor"
	"inbox/cmd/inbox/internal/healthcheck"
	"inbox/cmd/inbox/internal/snapshot"
	"inbox/cmd/inbox/internal/state"
	"inbox/inbox/invite"
	"inbox/tlsmgr"
	"inbox/tlsmgr/acme"
)

// DoctorConfig returns the doctor's configuration for a server with these options.
func DoctorConfig(c *config.Config) doctor.Config {
	a, fewFiles := c.ACME, int64(0)
	if c.FewFiles() {
		fewFiles = c.Files.Limit
	}
	return doctor.Config{
		FewFiles: fewFiles, MaxConns: min(int64(c.MaxConns), c.Files.Conns),
		Domains: c.Domains, Email: a.Email, TermsAgreed: a.Agreed,
		Bind: c.Bind.Value, HTTPBind: c.HTTPBind.Value, HTTPS: c.HTTPS, ProxyProtocol: c.ProxyProtocol,
		CertFile: c.CertFile, KeyFile: c.KeyFile, StateDir: c.StateDir,
		CA: a.CA, FallbackCA: a.FallbackCA, Staging: a.Staging, Engine: a.Engine, Profile: a.Profile,
		JSON: c.Doctor.JSON, RenewTest: c.Doctor.RenewTest,
		TURN:        doctorTURN(c),
		MailboxPath: mailboxPath, HealthPath: healthPath, PrivateFiles: []string{state.SecretFile, snapshot.LockName, invite.FileName},
		Options:     optionFindings(c.Warnings),
		Pages:       func() error { _, err := openPages(c, nil, slog.New(slog.DiscardHandler)); return err },
		Store:       examineStore(c),
		Invitations: access.Examine(c),
		DryRun:      func(ctx context.Context) error { return testOrder(ctx, c) },
		Accounts:    func(ctx context.Context) []acme.Account { return storedAccounts(ctx, c) },
		States:      func() []tlsmgr.NameState { return storedCertificates(c) },
	}
}

// HealthTarget returns the liveness check of a server with these options.
func HealthTarget(c *config.Config) healthcheck.Target {
	t := healthcheck.Target{Bind: c.Bind.Value, HTTPS: c.HTTPS, ProxyProtocol: c.ProxyProtocol, Path: healthPath}
	if len(c.Domains) > 0 {
		t.Host = c.Domains[0]
	}
	return t
}

// doctorTURN returns what the doctor checks of STUN and TURN; nil if they are off.
func doctorTURN(c *config.Config) *doctor.TURN {
	t := c.TURN
	if t == nil {
		return nil
	}
	return &doctor.TURN{
		Host: t.Host, Relay: t.Relay, NoTLS: t.NoTLS, NeedsName: t.NeedsName,
		Bind: t.Bind.Value, BindGiven: t.Bind.From != "", ICEPath: icePath,
		BufferBytes: turnBufferBytes, MinBufferBytes: minTURNBufferBytes,
	}
}

// optionFindings returns the warnings about options that the server logs at its start.
func optionFindings(warnings []config.Warning) (found []doctor.Finding) {
	for _, w := range warnings {
		text := strings.ToUpper(w.Text[:1]) + w.Text[1:]
		if w.From != "" {
			text += " (from " + w.From + ")"
		}
		found = append(found, doctor.Finding{
			Name: w.Name, Level: doctor.Warning, Text: text + ".", Fix: strings.ToUpper(w.Fix[:1]) + w.Fix[1:],
		})
	}
	return found
}

// storedCertificates returns the state of the certificates that a server would load.
func storedCertificates(c *config.Config) []tlsmgr.NameState {
	if len(c.Domains) == 0 || c.StateDir == "" && c.Store == nil {
		return nil
	}
	tlsConfig := tlsmgrConfig(c, c.StateDir, sockets{}, slog.New(slog.DiscardHandler))
	if c.Store != nil {
		store := openUsedStore(c)
		if store == nil {
			return nil // the check of the store reports the reason
		}
		defer store.Shutdown()
		tlsConfig.Shared = sharedCertificates(c, store, tlsConfig.Logger)
	}
	tlsConfig.ACME.NoHTTP = false // satisfies New; no port is opened and nothing is ordered
	source, err := tlsmgr.New(tlsConfig)
	if err != nil {
		return nil // other checks report invalid options
	}
	return source.State()
}

// storedAccounts asks the CAs about the accounts that a server would order with. Those
// in a shared store are not examined.
func storedAccounts(ctx context.Context, c *config.Config) []acme.Account {
	if len(c.Domains) == 0 || c.StateDir == "" || c.Store != nil {
		return nil
	}
	tlsConfig := tlsmgrConfig(c, c.StateDir, sockets{}, slog.New(slog.DiscardHandler))
	tlsConfig.ACME.NoHTTP = false // satisfies the configuration; no port is opened
	return tlsmgr.Accounts(ctx, tlsConfig)
}

// preflight logs the doctor's findings if a name has no ACME certificate yet. Orders do
// not wait for it.
func preflight(ctx context.Context, c *config.Config, certs *tlsmgr.Manager, log *slog.Logger) {
	missing := func(state tlsmgr.NameState) bool { return state.Source != "acme" }
	if len(c.Domains) == 0 || !c.ACME.Preflight || !slices.ContainsFunc(certs.State(), missing) {
		return
	}
	examination := DoctorConfig(c)
	// The server has already logged the options and the certificates, and opened the pages.
	examination.Options, examination.Pages, examination.InServer = nil, nil, true
	examination.States, examination.Accounts = nil, nil // the server logs about certificates and accounts
	for _, f := range examination.Examine(ctx) {
		if f.Level != doctor.OK && ctx.Err() == nil {
			log.Warn("doctor: "+f.Text, "check", f.Check, "name", f.Name, "fix", f.Fix)
		}
	}
}
