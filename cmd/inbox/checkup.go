package main

import (
	"context"
	"crypto/x509"
	"log/slog"
	"os"
	"slices"

	"inbox/cmd/inbox/doctor"
	"inbox/tlsmgr"
)

// newCheckup is what the doctor examines for a server with these options.
func newCheckup(c *config, p process) doctor.Config {
	dir, err := chooseStateDir(c.state, p.environ)
	if err != nil {
		dir = ""
	}
	return doctor.Config{
		Domains: c.domains, Email: c.email, TermsAgreed: c.acme.agree,
		Bind: c.bind, HTTPBind: c.httpBind, HTTPS: c.https,
		CertFile: c.serverCert, KeyFile: c.serverKey, StateDir: dir,
		CAURL: c.acme.ca.url, SecondCAURL: c.acme.second.url,
		Roots: rootsIn(c.acme.ca.root), SecondRoots: rootsIn(c.acme.second.root),
		Staging: c.acme.staging, Engine: c.acme.engine, Profile: c.acme.profile,
		ExternalAccount: c.acme.ca.keyID != "", SecondAccount: c.acme.second.keyID != "",
		JSON: c.asJSON, RenewTest: c.renewTest,
		Store:  c.examineStore(),
		DryRun: func(ctx context.Context) error { return renewTest(ctx, c, dir) },
		States: func() []tlsmgr.NameState { return recorded(c, dir) },
	}
}

// rootsIn reads a file of trusted certificates. Without one the system's are
// trusted; with one that cannot be read nobody is, which the check of the
// authority then says.
func rootsIn(path string) *x509.CertPool {
	if path == "" {
		return nil
	}
	pool := x509.NewCertPool()
	if text, err := os.ReadFile(path); err == nil {
		pool.AppendCertsFromPEM(text)
	}
	return pool
}

// recorded is the state in which a server would find its certificates.
func recorded(c *config, dir string) []tlsmgr.NameState {
	if len(c.domains) == 0 || dir == "" && !c.store.shared() {
		return nil
	}
	config := c.certificateSource(dir, doors{}, slog.New(slog.DiscardHandler))
	if c.store.shared() {
		store := c.storeInUse()
		if store == nil {
			return nil // why, the check of the store says
		}
		defer store.Shutdown()
		config.Shared = c.sharedCertificates(store)
	}
	config.ACME.NoHTTP = false // nothing is opened, and nothing ordered
	source, err := tlsmgr.New(config)
	if err != nil {
		return nil // what is wrong with the options, other checks say
	}
	return source.State()
}

// lookFirst lets the doctor look before the first order, and logs what it
// finds. Nothing waits for it.
func (h *house) lookFirst(ctx context.Context) {
	missing := func(s tlsmgr.NameState) bool { return s.Source != "acme" }
	if len(h.cfg.domains) == 0 || !h.cfg.acme.preflight || !slices.ContainsFunc(h.source.State(), missing) {
		return
	}
	c := newCheckup(h.cfg, h.process)
	c.States, c.InServer = nil, true // the log has them already
	for _, f := range c.Examine(ctx) {
		if f.Level != doctor.OK && ctx.Err() == nil {
			h.log.Warn("the doctor: "+f.Text, "check", f.Check, "name", f.Name, "fix", f.Fix)
		}
	}
}
