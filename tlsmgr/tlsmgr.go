// Package tlsmgr provides and renews the certificates of a TLS listener.
//
// A [Manager] obtains certificates from an ACME CA if domains are configured, else
// uses certificate files if they exist, else creates a self-signed certificate for
// development. A server uses the tls.Config of the manager and runs the manager in
// the background. The package neither listens nor serves, and imports no ACME
// library: the caller selects an engine in [Config].
//
// Handshakes read only memory, except for ACME challenges while an order is in
// progress. Run reloads files and renews certificates, so a manager that does not
// run serves certificates that expire. Call Run once the listeners are bound,
// because the CA connects to them.
package tlsmgr

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/internal/hosts"
	"inbox/tlsmgr/internal/timeout"
	"inbox/tlsmgr/internal/tlsconfig"
)

// Manager provides certificates for a TLS listener. All methods are safe for
// concurrent use. Run must be called at most once.
type Manager struct {
	source  source
	managed *managed // the source if domains are configured, else nil
	tickets *tickets
}

// New returns a manager of the source that c selects, and logs the choice: an ACME CA
// if Domains is set, else the certificate files if either exists, else a self-signed
// certificate. Invalid files are an error unless Domains is set. An inconsistent
// configuration is an error that wraps [ErrUsage].
func New(c Config) (*Manager, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Manager{tickets: newTickets(c.Shared, c.Logger)}
	var err error
	if len(c.Domains) == 0 {
		if m.source, err = newLocalSource(c); err != nil {
			return nil, err
		}
		return m, nil
	}
	if m.managed, err = newManaged(c); err != nil {
		return nil, err
	}
	m.source = m.managed
	return m, nil
}

// newLocalSource returns the certificate files if either exists, else a self-signed
// certificate.
func newLocalSource(c Config) (source, error) {
	// The files are the only certificate, so the timeout is longer.
	f, err := timeout.Call(5*diskTimeout, func() (*files, error) {
		if exists(c.CertFile) || exists(c.KeyFile) {
			return newFiles(c)
		}
		return nil, nil
	})
	switch {
	case errors.Is(err, timeout.Err):
		return nil, fmt.Errorf("timeout reading %s: the disk does not respond; fix it, or use other certificate files", c.CertFile)
	case err != nil:
		return nil, err
	case f != nil:
		return f, nil
	}
	return newSelfSigned(c)
}

// TLSConfig returns a complete server configuration: versions, cipher suites,
// protocols and GetCertificate. Each call returns a new one, which the caller owns.
// All of them serve the current certificates.
func (m *Manager) TLSConfig() *tls.Config {
	c := m.tickets.configure(tlsconfig.Server(m.source.getCertificate))
	if m.managed != nil {
		c.NextProtos = append(c.NextProtos, acme.ALPNProto)
	}
	return c
}

// HTTPHandler returns a handler that responds to http-01 challenges and passes all other
// requests to fallback. CAs send them to port 80 and follow redirects to https, so a server
// must use the handler for both.
func (m *Manager) HTTPHandler(fallback http.Handler) http.Handler {
	if m.managed == nil {
		return fallback
	}
	return m.managed.acme.HTTPHandler(fallback)
}

// hstsMaxAge is a week: long enough to protect a regular user, and short enough for an
// operator who disables HTTPS.
const hstsMaxAge = "max-age=604800"

// HSTS sets Strict-Transport-Security (RFC 6797) in responses over TLS for hosts with a
// valid certificate of a publicly trusted CA. Without domains it returns next.
func (m *Manager) HSTS(next http.Handler) http.Handler {
	if m.managed == nil || !m.managed.acme.PubliclyTrusted() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && m.managed.hasIssued(hosts.FromHeader(r.Host), time.Now()) {
			w.Header().Set("Strict-Transport-Security", hstsMaxAge)
		}
		next.ServeHTTP(w, r)
	})
}

// Run reloads and renews certificates. It returns nil when ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	var background sync.WaitGroup
	background.Go(func() { m.tickets.run(ctx) })
	m.source.run(ctx)
	background.Wait()
	return nil
}

// Reload checks for a newer certificate now, and makes due orders as soon as the
// limits of the CA allow. Errors are logged, and the current certificate stays in use.
func (m *Manager) Reload() { m.source.reload() }

// State returns the state of the certificate for each name.
func (m *Manager) State() []NameState { return m.source.state() }

// CheckValid returns an error if the certificate of a name has expired or is not valid
// yet. A name without a certificate is not an error.
func (m *Manager) CheckValid(now time.Time) error {
	for _, s := range m.State() {
		if s.Source != "" && (now.Before(s.NotBefore) || !now.Before(s.NotAfter)) {
			return fmt.Errorf("the certificate of %s is valid from %s to %s", s.Name, s.NotBefore.Format(time.DateTime), s.NotAfter.Format(time.DateTime))
		}
	}
	return nil
}

// IsPublicAddr reports whether an IP address is reachable over the internet.
func IsPublicAddr(a netip.Addr) bool { return hosts.IsPublicAddr(a) }
