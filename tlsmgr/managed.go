package tlsmgr

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/internal/certs"
	"inbox/tlsmgr/internal/hosts"
	"inbox/tlsmgr/internal/timeout"
	"inbox/tlsmgr/storage"
)

// managed serves the configured names with certificates of a CA, or with the certificate
// files until there is one.
type managed struct {
	names      []string
	log        *slog.Logger
	certs      *certTable
	static     *files             // nil if no files are configured
	lastStatic *tls.Certificate   // last seen certificate of the files
	dir        *storage.Directory // nil for shared storage
	acme       *acme.Client
}

// stateStorage returns the storage of accounts and certificates. dir is nil if it is
// shared.
func stateStorage(c Config) (s storage.Storage, dir *storage.Directory) {
	if c.Shared != nil {
		return c.Shared, nil
	}
	dir = acmeDirectory(c.StateDir, c.Logger)
	return dir, dir
}

func acmeDirectory(stateDir string, log *slog.Logger) *storage.Directory {
	if stateDir != "" {
		stateDir = filepath.Join(stateDir, "acme")
	}
	return storage.NewDirectory(stateDir, log)
}

func newManaged(c Config) (*managed, error) {
	names, err := acme.Names(c.Domains)
	if err != nil {
		return nil, err
	}
	store, dir := stateStorage(c)
	m := &managed{names: names, log: c.Logger, dir: dir, certs: newCertTable(names)}
	m.acme, err = acme.New(acme.Options{
		Config: c.ACME, Domains: c.Domains, Storage: store, Logger: c.Logger, OnCertificate: m.certs.setACME,
	})
	if err != nil {
		return nil, err
	}
	m.loadStatic(c)
	m.announce()
	if c.Shared == nil && c.StateDir == "" {
		m.log.Warn("no certificate will be ordered: there is no state directory, " +
			"and the limits of a CA cannot be respected without a stored schedule")
	}
	return m, nil
}

// loadStatic loads the certificate files if they are configured. They are a fallback, so
// an error is only logged.
func (m *managed) loadStatic(c Config) {
	if c.CertFile == "" && c.KeyFile == "" {
		return
	}
	m.static = newUnloadedFiles(c)
	if !m.static.exclusiveWithTimeout(func() { m.static.readInitial(); m.applyStatic() }) {
		m.static.reportTimeout()
	}
}

// applyStatic uses the certificate of the files if it has changed, unless it is for other
// names. The caller must hold readSem, so that an older certificate does not replace a
// newer one.
func (m *managed) applyStatic() {
	cert := m.static.current.Load()
	if cert == nil || m.lastStatic == cert {
		return
	}
	m.lastStatic = cert
	if !slices.ContainsFunc(m.names, func(name string) bool { return certs.Covers(cert.Leaf, name) }) {
		m.log.Warn("the certificate files are for other names and are not used", "names", certs.Names(cert.Leaf))
		return
	}
	m.certs.setStatic(cert)
}

// announce logs which source serves each name, in one line.
func (m *managed) announce() {
	now := time.Now()
	var serves []string
	for _, name := range m.names {
		text := name + " by nothing yet"
		switch cert, source := m.certs.pick(name, now); source {
		case "acme":
			text = fmt.Sprintf("%s by its certificate, until %s", name, cert.Leaf.NotAfter.Format(time.DateTime))
		case "file":
			text = fmt.Sprintf("%s by the files, until there is a certificate", name)
		}
		serves = append(serves, text)
	}
	m.log.Info("certificate", "source", "acme", "why", "domains are configured", "engine", m.acme.EngineName(),
		"ca", m.acme.CAURL(), "served", strings.Join(serves, "; "))
}

// getCertificate reads only memory, except for challenges while an order is in
// progress. (nil, nil) makes crypto/tls send unrecognized_name.
func (m *managed) getCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if acme.IsChallenge(hello) {
		return m.acme.Challenge(hello)
	}
	name := m.certs.requestedName(hello)
	if name == "" {
		return nil, nil
	}
	cert, _ := m.certs.pick(name, time.Now())
	return cert, nil
}

// hasIssued reports whether a host name is served with a valid certificate of the CA. It is
// false for IP addresses, for which browsers ignore HSTS.
func (m *managed) hasIssued(name string, now time.Time) bool {
	cert, source := m.certs.pick(name, now)
	return source == "acme" && certs.ValidAt(cert, now) && !hosts.IsIP(name)
}

func (m *managed) run(ctx context.Context) {
	var background sync.WaitGroup
	background.Go(func() { m.acme.Run(ctx) })
	if m.dir != nil {
		released := make(chan func(), 1)
		go func() { released <- m.dir.MarkInUse() }() // the disk can hang
		defer timeout.Run(acme.ShutdownTimeout, func() { (<-released)() })
	}
	every(ctx, fileCheckInterval, func() {
		if m.static != nil {
			m.static.exclusiveWithTimeout(func() { m.static.check(); m.applyStatic() })
		}
	})
	background.Wait()
}

func (m *managed) reload() {
	m.acme.ForceRenewal()
	if m.static != nil && !m.static.exclusiveWithTimeout(m.reread) {
		m.static.reportTimeout()
	}
}

func (m *managed) reread() {
	if exists(m.static.certFile) || exists(m.static.keyFile) {
		m.static.reread()
		m.applyStatic()
	}
}

func (m *managed) state() []NameState {
	now := time.Now()
	var states []NameState
	for _, s := range m.acme.Status() {
		n := NameState{
			Name: s.Name, LastError: s.Err, LastAttempt: s.LastAttempt, NextAttempt: s.NextAttempt,
			Engine: m.acme.EngineName(), CA: m.acme.CAURL(), Status: s.Text,
			RenewAt: s.RenewAt, Failures: s.Failures, Obtained: s.Obtained,
		}
		if cert, source := m.certs.pick(s.Name, now); cert != nil {
			n.Source, n.Issuer = source, cert.Leaf.Issuer.CommonName
			n.NotBefore, n.NotAfter, n.Fingerprint = cert.Leaf.NotBefore, cert.Leaf.NotAfter, Fingerprint(cert.Leaf)
		}
		states = append(states, n)
	}
	return states
}
