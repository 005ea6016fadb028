package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"time"

	"inbox/tlsmgr"
)

// newCheckup is what the doctor examines for a server with these options.
func newCheckup(c *config, p process) checkup {
	dir, err := chooseStateDir(c.state, p.environ)
	if err != nil {
		dir = ""
	}
	return checkup{
		Domains: c.domains, Email: c.email, Agreed: c.acme.agree,
		Bind: c.bind, HTTPBind: c.httpBind, HTTPS: c.https,
		CertFile: c.serverCert, KeyFile: c.serverKey, StateDir: dir,
		CAURL: c.acme.ca.url, SecondCAURL: c.acme.second.url,
		Roots: rootsIn(c.acme.ca.root), SecondRoots: rootsIn(c.acme.second.root),
		Staging: c.acme.staging, Engine: c.acme.engine, Profile: c.acme.profile,
		ExternalAccount: c.acme.ca.keyID != "", SecondAccount: c.acme.second.keyID != "",
		JSON: c.asJSON, RenewTest: c.renewTest,
		renewTest: func(ctx context.Context) error { return renewTest(ctx, c) },
		notes:     func() []note { return recordedTrouble(recorded(c, dir)) },
		stored:    func() []stored { return storedCertificates(recorded(c, dir)) },
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
	if len(c.domains) == 0 || dir == "" {
		return nil
	}
	config := c.certificateSource(dir, doors{}, slog.New(slog.DiscardHandler))
	config.ACME.NoHTTP = false // nothing is opened, and nothing ordered
	source, err := tlsmgr.New(config)
	if err != nil {
		return nil // what is wrong with the options, other checks say
	}
	return source.State()
}

// recordedTrouble is what the last orders came to nothing for.
func recordedTrouble(states []tlsmgr.NameState) (notes []note) {
	for _, s := range states {
		if s.LastError != nil {
			notes = append(notes, note{Name: s.Name, Text: s.LastError.Error(), At: s.LastAttempt, Next: s.NextAttempt})
		}
	}
	return notes
}

func storedCertificates(states []tlsmgr.NameState) (all []stored) {
	for _, s := range states {
		one := stored{Name: s.Name}
		if s.Source == "acme" {
			one.Issuer, one.NotAfter = s.Issuer, s.NotAfter
		}
		all = append(all, one)
	}
	return all
}

// renewTestTime bounds a dry order: two challenges, a slow authority, and room.
const renewTestTime = 3 * time.Minute

// renewTest makes an order for all names as the server would, at the place for
// tests, and keeps nothing of it. It needs the ports: the authority connects to
// them, and a server that runs answers for its own orders alone.
func renewTest(ctx context.Context, c *config) error {
	dir, err := os.MkdirTemp("", "inbox-renew-test-")
	if err != nil {
		return fmt.Errorf("make a directory for the test: %w", err)
	}
	defer os.RemoveAll(dir)
	quiet := slog.New(slog.DiscardHandler)
	d, err := openDoors(c, nil, quiet)
	if err != nil {
		return fmt.Errorf("the test needs the ports; stop the server while it runs: %w", err)
	}
	defer d.close()
	config := c.certificateSource(dir, d, quiet)
	config.ACME.Second = tlsmgr.Authority{} // an order there would be a real one
	if url := config.ACME.CA.URL; url == "" || url == tlsmgr.LetsEncrypt {
		config.ACME.CA, config.ACME.Staging = tlsmgr.Authority{}, true
	}
	config.ACME.StagingFirst = false
	source, err := tlsmgr.New(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, renewTestTime)
	defer cancel()
	return orderOnce(ctx, source, d)
}

// orderOnce runs the source behind the doors until all names are certified, or
// one has failed.
func orderOnce(ctx context.Context, source tlsmgr.Source, d doors) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); source.Run(ctx) }()
	defer func() { cancel(); <-done }()
	secure := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	plain := &http.Server{Handler: source.HTTPHandler(http.NotFoundHandler()), ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go secure.Serve(tls.NewListener(d.main, source.TLSConfig()))
	defer secure.Close()
	if d.plain != nil {
		go plain.Serve(d.plain)
		defer plain.Close()
	}
	for {
		states := source.State()
		if i := slices.IndexFunc(states, func(s tlsmgr.NameState) bool { return s.LastError != nil }); i >= 0 {
			return fmt.Errorf("%s: %w", states[i].Name, states[i].LastError)
		}
		if !slices.ContainsFunc(states, func(s tlsmgr.NameState) bool { return s.Obtained == 0 }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("the order was not finished within three minutes")
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// lookFirst lets the doctor look before the first order, and logs what it
// finds. Nothing waits for it.
func (h *house) lookFirst(ctx context.Context) {
	missing := func(s tlsmgr.NameState) bool { return s.Source != "acme" }
	if len(h.cfg.domains) == 0 || !h.cfg.acme.preflight || !slices.ContainsFunc(h.source.State(), missing) {
		return
	}
	c := newCheckup(h.cfg, h.process)
	c.notes, c.stored = nil, nil
	e := &examination{checkup: c.inTheWorld()}
	for _, f := range e.examine(ctx) {
		if f.Level != fine && ctx.Err() == nil {
			h.log.Warn("the doctor: "+f.Text, "check", f.Check, "name", f.Name, "mend", f.Mend)
		}
	}
}
